"""Token ids of documents -> blocks of exactly `length` tokens."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from minilm_lab.data.corpus import Packing
from minilm_lab.data.specials import Specials
from minilm_lab.data.tokenise import TokenBatch

Tokens = npt.NDArray[np.unsignedinteger]


class Packer(Protocol):
    """Turns batches of tokens into blocks; keeps what does not fill a block for the next batch."""

    @property
    def dropped(self) -> int:
        """Tokens of text that are in no block, as things stand."""

    def add(self, batch: TokenBatch) -> tuple[Tokens, ...]:
        """Return the new blocks, (blocks, length), their true lengths, (blocks,), and, of packing=pairs, where the second
        text of each begins, (blocks,): all unsigned."""


def packer(packing: Packing, specials: Specials, length: int) -> Packer:
    """Return the packer for blocks of `length` tokens, special tokens included."""
    kinds: dict[Packing, type[Packed | Sentences | Pairs]] = {
        Packing.packed: Packed,
        Packing.sentences: Sentences,
        Packing.pairs: Pairs,
    }
    return kinds[packing](specials, length)


def token_dtype(specials: Specials) -> np.dtype[np.unsignedinteger]:
    """Return uint16 where every token id fits, else uint32."""
    return np.dtype(np.uint16 if specials.largest <= np.iinfo(np.uint16).max else np.uint32)


class Packed:
    """Full blocks: documents, joined by the separator, are cut wherever a block is full; no text is lost.

    Only the end of the corpus that fills no block is dropped.
    """

    def __init__(self, specials: Specials, length: int) -> None:
        self._specials = specials
        self._length = length
        self._dtype = token_dtype(specials)
        self._rest: Tokens = np.empty(0, self._dtype)
        self._started = False  # whether anything stands before the next document
        self._begins = False  # whether a document begun has shown no token yet

    @property
    def dropped(self) -> int:
        return len(self._rest)

    def add(self, batch: TokenBatch) -> tuple[Tokens, Tokens]:
        stream: list[int] = []
        separator = self._specials.separator
        for ids, first in zip(batch.ids, batch.first, strict=True):
            self._begins = self._begins or first
            if not ids:
                continue
            if self._begins and self._started and separator is not None:
                stream.append(separator)
            stream.extend(ids)
            self._started, self._begins = True, False
        flat = np.concatenate([self._rest, np.array(stream, self._dtype)])
        width = self._length - self._specials.count
        count = len(flat) // width
        self._rest = flat[count * width :].copy()
        blocks = np.empty((count, self._length), self._dtype)
        begin = len(self._specials.prefix)
        blocks[:, :begin] = self._specials.prefix
        blocks[:, begin : begin + width] = flat[: count * width].reshape(count, width)
        blocks[:, begin + width :] = self._specials.suffix
        return blocks, np.full(count, self._length, np.uint32)


class Sentences:
    """One document per block: special tokens around it, truncated to the length, padded on the right."""

    def __init__(self, specials: Specials, length: int) -> None:
        self._specials = specials
        self._length = length
        self._dropped = 0

    @property
    def dropped(self) -> int:
        return self._dropped

    def add(self, batch: TokenBatch) -> tuple[Tokens, Tokens]:
        width = self._length - self._specials.count
        rows = []
        for ids, first in zip(batch.ids, batch.first, strict=True):
            if first and ids:
                rows.append([*self._specials.prefix, *ids[:width], *self._specials.suffix])
                self._dropped += max(0, len(ids) - width)
            else:  # the second piece of a document that one piece has filled
                self._dropped += len(ids)
        return _padded(rows, self._length, self._specials)


class Pairs:
    """Of three sentences the first is a block of its own, the other two are one: special tokens as the tokenizer puts
    them around pairs. What is too long is cut from the end of the longer text.
    """

    def __init__(self, specials: Specials, length: int) -> None:
        self._specials = specials
        self._length = length
        self._dropped = 0
        self._turn = 0  # of three: alone, first of a pair, second of a pair
        self._first: list[int] = []

    @property
    def dropped(self) -> int:
        return self._dropped + len(self._first)

    def add(self, batch: TokenBatch) -> tuple[Tokens, ...]:
        specials = self._specials
        alone, together = (self._length - specials.count - n for n in (0, len(specials.middle)))
        rows, seconds = [], []
        for ids, first in zip(batch.ids, batch.first, strict=True):
            if not first or not ids:  # a second piece: its sentence fills a block already
                self._dropped += len(ids)
                continue
            if self._turn == 1:
                self._first = ids
            else:
                before, after = (self._first, ids) if self._turn else (ids, [])
                room = together if self._turn else alone
                cut = min(len(before), max(room - len(after), room - room // 2))
                texts = before[:cut], after[: room - cut]
                self._dropped += len(before) + len(after) - sum(map(len, texts))
                start = [*specials.prefix, *texts[0], *(specials.middle if self._turn else [])]
                rows.append([*start, *texts[1], *specials.suffix])
                seconds.append(len(start) if self._turn else len(rows[-1]))
                self._first = []
            self._turn = (self._turn + 1) % 3
        return *_padded(rows, self._length, specials), np.array(seconds, np.uint32)


def _padded(rows: list[list[int]], length: int, specials: Specials) -> tuple[Tokens, Tokens]:
    """Rows of tokens -> blocks, and their true lengths."""
    blocks = np.full((len(rows), length), specials.pad, token_dtype(specials))
    for block, row in zip(blocks, rows, strict=True):
        block[: len(row)] = row
    return blocks, np.array([len(row) for row in rows], np.uint32)
