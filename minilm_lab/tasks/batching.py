"""Batches of similar length, in an order that is a pure function of (seed, batch number)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

log = logging.getLogger(__name__)

Batch = dict[str, torch.Tensor]

#: Examples are sorted by length inside groups of this many batches: enough to keep padding of short texts
#: below a tenth, few enough that what is in a batch remains random.
BATCHES_PER_GROUP = 50


class Samples(Protocol):
    """What batches are made of. How many there are and how long each is decides the order; the rest is its own."""

    @property
    def lengths(self) -> np.ndarray:
        """Length of each sample, int (samples,): samples of similar length are batched together."""

    def batch(self, rows: np.ndarray) -> Batch:
        """The tensors of these samples, any names; "tokens" (a scalar) or masks "…attention_mask" count tokens."""


def batches_per_epoch(examples: int, batch_size: int) -> int:
    """Number of batches of one epoch; one of them may be smaller than the others."""
    return -(-examples // batch_size)


def epoch_order(lengths: np.ndarray, *, seed: int, epoch: int, batch_size: int) -> list[np.ndarray]:
    """The batches (arrays of example numbers) of one epoch: every example once.

    Shuffle; cut into groups of 50 batches; sort each group by length; cut it into batches; shuffle the batches.
    """
    random = np.random.default_rng(np.random.SeedSequence([seed, epoch]))
    shuffled = random.permutation(len(lengths))
    batches: list[np.ndarray] = []
    for start in range(0, len(shuffled), BATCHES_PER_GROUP * batch_size):
        group = shuffled[start : start + BATCHES_PER_GROUP * batch_size]
        group = group[np.argsort(lengths[group], kind="stable")]
        batches += [group[at : at + batch_size] for at in range(0, len(group), batch_size)]
    return [batches[number] for number in random.permutation(len(batches))]


def loader(
    samples: Samples,
    *,
    seed: int,
    batch_size: int,
    first_batch: int,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    accumulate: int = 1,
) -> DataLoader[Batch]:
    """An endless loader that starts with global batch number `first_batch` (the number of batches seen so far).

    A global batch has ``batch_size * world_size * accumulate`` examples and is one optimizer step: it comes as
    `accumulate` batches one after the other, of which each rank gets a share. A share is every n-th example,
    so that all see similar lengths. What a step sees does not depend on how it is shared out. Batches are
    those of ``Samples.batch``. The loader has no length and needs no other sampler: with Lightning, pass
    ``use_distributed_sampler=False``.
    """
    global_size = batch_size * world_size * accumulate
    if len(samples.lengths) < global_size:
        log.warning(
            "The %d training examples are fewer than a batch of %d.", len(samples.lengths), global_size
        )
    return DataLoader(
        _Batches(samples),
        sampler=_Order(samples.lengths, seed, global_size, first_batch, rank, world_size, accumulate),
        batch_size=None,
        num_workers=workers,
    )


def eval_batches(samples: Samples, batch_size: int) -> Iterator[Batch]:
    """All examples once, longest first (so that a batch too big for the memory fails at once).

    Each batch has `index` too: the example numbers (int64), with which to put the outputs back in order.
    """
    order = np.argsort(-samples.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        yield samples.batch(chosen) | {"index": torch.from_numpy(chosen)}


class _Batches(Dataset[Batch]):
    """The batch of a list of example numbers."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, chosen: np.ndarray) -> Batch:
        return self.samples.batch(chosen)


class _Order(Sampler[np.ndarray]):
    """Endless: the example numbers of this rank's shares of each global batch. No ``__len__``, on purpose."""

    def __init__(
        self,
        lengths: np.ndarray,
        seed: int,
        global_size: int,
        first_batch: int,
        rank: int,
        world_size: int,
        accumulate: int,
    ) -> None:
        self.lengths, self.seed, self.global_size = lengths, seed, global_size
        self.first_batch, self.rank, self.world_size = first_batch, rank, world_size
        self.accumulate = accumulate

    def __iter__(self) -> Iterator[np.ndarray]:
        epoch, skip = divmod(self.first_batch, batches_per_epoch(len(self.lengths), self.global_size))
        while True:
            batches = epoch_order(self.lengths, seed=self.seed, epoch=epoch, batch_size=self.global_size)
            for batch in batches[skip:]:
                # The epoch's smaller batch may have fewer examples than shares: then some are in several, because
                # a rank without any would leave the others waiting.
                shares = self.world_size * self.accumulate
                filled = np.resize(batch, max(len(batch), shares))
                for part in range(self.accumulate):
                    yield filled[part * self.world_size + self.rank :: shares]
            epoch, skip = epoch + 1, 0
