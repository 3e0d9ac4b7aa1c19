"""Tokenise a corpus once into a cache of blocks."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from minilm_lab.data.blocks import LENGTHS, SECONDS, TOKENS, Blocks, BrokenCache, Index, write_index
from minilm_lab.data.checksum import settings_checksum
from minilm_lab.data.corpus import Corpus, Packing
from minilm_lab.data.kept import kept
from minilm_lab.data.pack import packer, token_dtype
from minilm_lab.data.sentences import sentences
from minilm_lab.data.specials import specials_of
from minilm_lab.data.tokenise import tokenise
from minilm_lab.errors import LabError

logger = logging.getLogger(__name__)

FORMAT = 2
"""Goes up whenever the same settings would give other blocks."""
SHORTEST_LENGTH = 8
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when nothing more can be written: disk, quota, largest file."""


def build(
    corpus: Corpus,
    tokenizer: Any,
    tokenizer_key: str,
    *,
    length: int,
    hub: str | None,
    cache: Path,
    progress: bool = True,
) -> Blocks:
    """Return the token blocks of `corpus`, from the cache if they are there, else tokenised now.

    Blocks lie in ``<cache>/corpora/<key>/``; the key depends on the corpus' content, its packing, the tokenizer
    and the length. A build that was killed leaves nothing that is used; of several processes that need the same
    blocks one builds and the others wait; blocks that differ from their checksum are built again.

    Args:
        corpus: what to read.
        tokenizer: a Hugging Face tokenizer.
        tokenizer_key: checksum of the tokenizer.
        length: tokens of a block, special tokens included.
        hub: folder with local copies of hub data sets, or None.
        cache: folder for caches.
        progress: whether to show a progress bar.

    Raises:
        LabError: the input is missing, empty, binary or too small for two blocks, `length` is too small, or
            the disk is full.
    """
    if length < SHORTEST_LENGTH:
        raise LabError(f"a block length of {length} tokens is too short; use {SHORTEST_LENGTH} or more.")
    settings = {
        "corpus": corpus.fingerprint(hub, cache),
        "packing": corpus.packing.value,
        "tokenizer": tokenizer_key,
        "length": length,
        "written_specials": corpus.written_specials,
        "format": FORMAT,
    }
    folder = Path(cache) / "corpora" / settings_checksum(settings)

    def write(folder: Path) -> None:
        documents = corpus.documents(hub, cache)
        index = _write_blocks(folder, corpus, tokenizer, settings, length, documents, progress)
        _check_enough(index)
        write_index(folder, index)

    waiting = f"Another process tokenises the corpus '{corpus.name}'; waiting for it."
    try:
        return kept(folder, Blocks.open, write, BrokenCache, waiting)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise LabError(
                f"the disk is full: no room for the tokens of corpus '{corpus.name}' in {folder.parent} "
                f"({error.strerror}); free some, or point paths.cache elsewhere."
            ) from error
        if not str(error.filename).startswith(str(cache)):
            raise
        raise LabError(f"paths.cache={cache} cannot be written to ({error.strerror or error})") from error


def _write_blocks(
    folder: Path,
    corpus: Corpus,
    tokenizer: Any,
    settings: dict[str, Any],
    length: int,
    documents: Iterator[str],
    progress: bool,
) -> Index:
    started = time.monotonic()
    specials = specials_of(tokenizer)
    packing = packer(corpus.packing, specials, length)
    count = tokens = characters = blocks_written = 0
    names = {Packing.packed: [TOKENS], Packing.sentences: [TOKENS, LENGTHS]}.get(
        corpus.packing, [TOKENS, LENGTHS, SECONDS]
    )
    if corpus.packing is Packing.pairs:
        documents = (sentence for document in documents for sentence in sentences(document))
    digests = {name: hashlib.blake2b(digest_size=16) for name in names}
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("wb")) for name in names}
        bar = stack.enter_context(
            tqdm(desc=f"tokenising {corpus.name}", unit=" tokens", unit_scale=True, disable=not progress)
        )
        for batch in tokenise(documents, tokenizer, specials=corpus.written_specials):
            blocks, lengths, *_ = arrays = packing.add(batch)
            for name, array in zip(names, arrays, strict=False):
                content = array.tobytes()
                files[name].write(content)
                digests[name].update(content)
            count += sum(batch.first)
            characters += batch.characters
            blocks_written += len(blocks)
            tokens += int(lengths.sum())
            bar.update(sum(map(len, batch.ids)))
            bar.set_postfix_str(f"{count:,} documents", refresh=False)
    return Index(
        corpus=corpus.name,
        settings=settings,
        blocks=blocks_written,
        length=length,
        packing=corpus.packing.value,
        dtype=token_dtype(specials).name,
        pad=specials.pad,
        documents=count,
        characters=characters,
        tokens=tokens,
        dropped=packing.dropped,
        seconds=round(time.monotonic() - started, 3),
        checksums={name: digest.hexdigest() for name, digest in digests.items()},
    )


def _check_enough(index: Index) -> None:
    if index.documents == 0:
        raise LabError(f"the corpus '{index.corpus}' gives no document: its files hold no text.")
    if index.blocks < 2:
        raise LabError(
            f"the corpus '{index.corpus}' is too small: {index.tokens + index.dropped:,} tokens make {index.blocks} "
            f"block(s) of {index.length}, and at least 2 are needed (one to train on, one held out). "
            "Use more text or a shorter scale.length."
        )
