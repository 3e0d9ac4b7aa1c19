"""Batches of blocks: an endless training stream that can start anywhere, and the held-out blocks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from minilm_lab.data.blocks import Blocks, Numbers
from minilm_lab.data.loading import endless
from minilm_lab.data.masking import IGNORED, Masking
from minilm_lab.data.order import Order
from minilm_lab.errors import LabError

if TYPE_CHECKING:  # importing torch takes seconds, which a configuration error should not
    from torch import Tensor
    from torch.utils.data import DataLoader


class Batch(TypedDict):
    """Blocks as the models take them."""

    input_ids: Tensor
    """(batch, length), int64; length is that of the longest block of the batch."""
    mask: Tensor | None
    """(batch, length), bool, true = real token; None if every block is full."""
    segments: Tensor | None
    """(batch, length), int64: 0 = special tokens and the first text, 1 = the second of a pair; None without pairs."""
    samples: Tensor
    """(batch,), int64: sample numbers; of held-out batches the block numbers."""
    blocks: Tensor
    """(batch,), int64: block numbers."""
    tokens: int
    """Real tokens in the batch, special tokens included."""
    masked: Tensor | None
    """(masked positions,), int64: where masked language modelling hides tokens, as indices into the flattened
    (batch × length); None without masking. `input_ids` are then corrupted."""
    labels: Tensor | None
    """(masked positions,), int64: the true tokens there."""


def loader(
    blocks: Blocks,
    *,
    seed: int,
    batch_size: int,
    first_sample: int,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
    masking: Masking | None = None,
    whole: int | None = None,
) -> DataLoader[Batch]:
    """Return an endless stream of training batches that begins with sample number `first_sample`.

    Global batch k holds the `batch_size * world_size` samples after ``first_sample + k * batch_size *
    world_size``, of which rank r takes its contiguous slice. So what is seen depends on `seed` and the number of
    samples seen alone: the loader is resumed by passing that number, with any number of ranks and workers.

    Args:
        blocks: what to sample from; held-out blocks never come.
        seed: of the order.
        batch_size: samples of a batch of this rank.
        first_sample: number of samples seen before, over all ranks.
        rank: of this process.
        world_size: number of ranks.
        workers: processes that read ahead; 0 = read in this one.
        pin_memory: for faster copies to a GPU.
        whole: samples of an optimizer step, over all ranks and micro-batches (packing=pairs: those have similar lengths);
            None = of a batch over all ranks.
        masking: of masked language modelling, a pure function of the sample number; None = the text as it is.

    Raises:
        LabError: there are fewer training blocks than a batch over all ranks.
    """
    training, together = len(blocks.train), batch_size * world_size
    step = together if whole is None or blocks.seconds is None else whole
    if training < step:
        raise LabError(
            f"the corpus '{blocks.index.corpus}' has {training:,} training blocks of {blocks.length} tokens, fewer "
            f"than one batch of {step:,}; use more text, a smaller scale.batch_size or a shorter "
            "scale.length."
        )
    order = _Stream(first_sample + rank * batch_size, batch_size, together)
    samples = _Samples(blocks, seed, masking, step)
    return endless(samples, order, seed=seed, workers=workers, pin_memory=pin_memory)


def held_out_batches(
    blocks: Blocks, batch_size: int, limit: int | None = None, masking: Masking | None = None
) -> Iterator[Batch]:
    """Yield the held-out blocks in order, `batch_size` a batch (the last may be smaller), at most `limit` blocks."""
    chosen = blocks.held_out[:limit]
    for start in range(0, len(chosen), batch_size):
        numbers = chosen[start : start + batch_size]
        yield _batch(blocks, numbers, numbers, masking)


class _Samples:
    """Sample numbers -> batch."""

    def __init__(self, blocks: Blocks, seed: int, masking: Masking | None, batch: int) -> None:
        self._blocks, self._masking = blocks, masking
        # Pairs are of many lengths: similar ones share a batch.
        lengths = None if blocks.seconds is None or blocks.lengths is None else blocks.lengths[blocks.train]
        self._order = Order(seed, len(blocks.train), lengths, batch)

    def batch(self, numbers: Numbers) -> Batch:
        return _batch(self._blocks, self._blocks.train[self._order(numbers)], numbers, self._masking)


class _Stream:
    """Endless runs of consecutive sample numbers. It has no length."""

    def __init__(self, first: int, size: int, step: int) -> None:
        self._first, self._size, self._step = first, size, step

    def __iter__(self) -> Iterator[Numbers]:
        for start in count(self._first, self._step):
            yield np.arange(start, start + self._size, dtype=np.int64)


def _batch(
    blocks: Blocks,
    rows: Numbers,
    samples: Numbers,
    masking: Masking | None,
) -> Batch:
    import torch

    mask: Tensor | None = None
    longest, tokens = blocks.length, len(rows) * blocks.length
    if blocks.lengths is not None:
        lengths = blocks.lengths[rows]
        longest, tokens = int(lengths.max()), int(lengths.sum())
        mask = torch.from_numpy(np.arange(longest) < lengths[:, None])
    segments: Tensor | None = None
    if blocks.seconds is not None:
        second = np.arange(longest) >= blocks.seconds[rows, None]
        if mask is not None:
            second &= mask.numpy()
        segments = torch.from_numpy(second.astype(np.int64))
    ids = np.asarray(blocks.tokens[rows, :longest]).astype(np.int64)
    masked: Tensor | None = None
    labels: Tensor | None = None
    if masking is not None:
        ids, hidden = masking(ids, samples)
        where = np.flatnonzero(hidden != IGNORED)
        masked, labels = torch.from_numpy(where), torch.from_numpy(hidden.reshape(-1)[where])
    return Batch(
        input_ids=torch.from_numpy(ids),
        mask=mask,
        segments=segments,
        samples=torch.from_numpy(samples.copy()),
        blocks=torch.from_numpy(rows.copy()),
        tokens=tokens,
        masked=masked,
        labels=labels,
    )
