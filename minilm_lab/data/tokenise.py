"""Documents -> token ids, in batches that bound the memory and keep all threads of the tokenizer busy."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

#: Characters a batch. Large enough for all threads, small enough for memory (about 100 bytes a character; two at a time).
BATCH_CHARACTERS = 1_000_000
#: Longer documents are tokenised piece by piece: one text is one thread's work, and may be gigabytes long.
PIECE_CHARACTERS = 50_000


@dataclass(frozen=True)
class TokenBatch:
    """Token ids of consecutive pieces of text, without special tokens."""

    ids: list[list[int]]
    """One list a piece."""

    first: list[bool]
    """Whether the piece begins a document (true) or goes on with the one before."""

    characters: int
    """Length of the text."""


def tokenise(
    documents: Iterable[str],
    tokenizer: Any,
    *,
    piece: int = PIECE_CHARACTERS,
    batch: int = BATCH_CHARACTERS,
    specials: bool = False,
) -> Iterator[TokenBatch]:
    """Tokenise `documents` with the threads of a fast tokenizer; `piece` and `batch` are in characters.

    specials: whether "[MASK]" written in a text is the mask token; else it is text like any other.

    While the caller takes a batch to blocks, the tokenizer's threads are at the next: they need no Python.
    """
    _stay_quiet_in_forks()
    with ThreadPoolExecutor(1) as ahead:
        waiting: Future[TokenBatch] | None = None
        for texts, first, characters in _batches(documents, piece, batch):
            coming = ahead.submit(_tokenised, texts, first, characters, tokenizer, specials)
            if waiting is not None:
                yield waiting.result()
            waiting = coming
        if waiting is not None:
            yield waiting.result()


def _tokenised(
    texts: list[str], first: list[bool], characters: int, tokenizer: Any, specials: bool
) -> TokenBatch:
    return TokenBatch(_token_ids(texts, tokenizer, specials), first, characters)


def _batches(documents: Iterable[str], piece: int, batch: int) -> Iterator[tuple[list[str], list[bool], int]]:
    """Pieces of text, whether each begins a document, and how many characters they are together."""
    texts: list[str] = []
    first: list[bool] = []
    characters = 0
    for document in documents:
        for number, text in enumerate(pieces(document, piece)):
            texts.append(text)
            first.append(number == 0)
            characters += len(text)
            if characters >= batch:
                yield texts, first, characters
                texts, first, characters = [], [], 0
    if texts:
        yield texts, first, characters


def pieces(document: str, limit: int) -> Iterator[str]:
    """Cut `document` into pieces of at most `limit` characters that join to the whole.

    A cut falls in front of white space where there is some, which is where tokenizers cut too: the pieces have
    the same tokens as the whole.
    """
    start = 0
    while len(document) - start > limit:
        end = start + limit
        cut = max(document.rfind(" ", start + 1, end), document.rfind("\n", start + 1, end))
        while cut > start + 1 and document[cut - 1].isspace():
            cut -= 1
        end = cut if cut > start else end
        yield document[start:end]
        start = end
    yield document[start:]


def _token_ids(texts: list[str], tokenizer: Any, specials: bool) -> list[list[int]]:
    # Not through the tokenizer's own call: it makes a dictionary of lists of each text, under Python's lock.
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = not specials
    return [text.ids for text in backend.encode_batch_fast(texts, add_special_tokens=False)]


@functools.cache
def _stay_quiet_in_forks() -> None:
    """Let forked children (loader workers) tokenise on one thread, without a warning for each of them.

    Threads do not survive a fork, so a child that used them would wait for ever. The tokenizers turn them off by
    themselves, but say so on the terminal unless the variable is set at the moment of the fork.
    """
    name = "TOKENIZERS_PARALLELISM"
    if name in os.environ:
        return
    os.register_at_fork(
        before=lambda: os.environ.update({name: "false"}), after_in_parent=lambda: os.environ.pop(name, None)
    )
