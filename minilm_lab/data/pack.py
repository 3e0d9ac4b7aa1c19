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

    def add(self, batch: TokenBatch) -> tuple[Tokens, Tokens]:
        """Return the new blocks, (blocks, length), and their true lengths, (blocks,), both unsigned."""


def packer(packing: Packing, specials: Specials, length: int) -> Packer:
    """Return the packer for blocks of `length` tokens, special tokens included."""
    return Packed(specials, length) if packing is Packing.packed else Sentences(specials, length)


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
        lengths = np.array([len(row) for row in rows], np.uint32)
        blocks = np.full((len(rows), self._length), self._specials.pad, token_dtype(self._specials))
        for block, row in zip(blocks, rows, strict=True):
            block[: len(row)] = row
        return blocks, lengths
