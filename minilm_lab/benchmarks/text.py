"""Blocks of random tokens in the cache's own layout, so that a benchmark reads its batches as training does."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minilm_lab.data.blocks import TOKENS, Blocks, Index


def random_blocks(folder: Path, vocabulary: int, length: int, count: int) -> Blocks:
    """Write `count` blocks of `length` tokens below `vocabulary` (none of the first five, which are special)."""
    dtype = "uint16" if vocabulary <= 1 << 16 else "uint32"
    tokens = np.random.default_rng(0).integers(5, vocabulary, (count, length)).astype(dtype)
    folder.mkdir(parents=True)
    tokens.tofile(folder / TOKENS)
    index = Index(
        corpus="random",
        settings={},
        blocks=count,
        length=length,
        packing="packed",
        dtype=dtype,
        pad=0,
        documents=0,
        characters=0,
        tokens=tokens.size,
        dropped=0,
        seconds=0.0,
    )
    return Blocks(folder, index)
