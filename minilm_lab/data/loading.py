"""Batches whose order is a pure function of (seed, step): endless ones for training, every sample once for evaluation."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:  # importing torch takes seconds, which a configuration error should not
    from torch import Tensor
    from torch.utils.data import DataLoader

log = logging.getLogger(__name__)

Batch = dict[str, "Tensor"]

BATCHES_PER_GROUP = 50
"""Examples are sorted by length inside groups of this many batches: enough to keep padding of short texts
below a tenth, few enough that what is in a batch remains random."""


class Samples(Protocol):
    """What batches are made of. How many there are and how long each is decides the order; the rest is its own."""

    @property
    def lengths(self) -> np.ndarray:
        """Length of each sample, int (samples,): samples of similar length are batched together."""

    def batch(self, rows: np.ndarray) -> Batch:
        """The tensors of these samples, any names; "tokens" (a scalar) or masks "…attention_mask" count tokens."""


def endless(
    samples: Any, order: Iterable[np.ndarray], *, seed: int, workers: int = 0, pin_memory: bool = False
) -> DataLoader[Any]:
    """Return a loader of ``samples.batch(rows)`` for the `rows` that `order` gives, which may go on for ever.

    Its own generator gives the workers their seeds: torch's global random state, and with it dropout, is left alone.
    """
    import torch
    from torch.utils.data import DataLoader

    return DataLoader(
        _Batches(samples),  # type: ignore[arg-type]
        sampler=order,
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        generator=torch.Generator().manual_seed(seed),
    )


class _Batches:
    """Map-style data set: numbers of samples -> batch."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def __getitem__(self, rows: np.ndarray) -> Any:
        return self.samples.batch(rows)


def _as_it_is(batch: Any) -> Any:
    return batch


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


def by_length(
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
    so that all see similar lengths. What a step sees does not depend on how it is shared out. The loader has no length
    and needs no other sampler: with Lightning, pass ``use_distributed_sampler=False``.
    """
    shares = world_size * accumulate
    if len(samples.lengths) < batch_size * shares:
        log.warning(
            "The %d training examples are fewer than a batch of %d.",
            len(samples.lengths),
            batch_size * shares,
        )
    parts = range(rank, shares, world_size)
    order = _ByLength(samples.lengths, seed, batch_size * shares, first_batch, parts, shares)
    return endless(samples, order, seed=seed, workers=workers)


class _ByLength:
    """Some of the `shares` of every global batch, for ever. No ``__len__``, on purpose."""

    def __init__(
        self, lengths: np.ndarray, seed: int, size: int, first: int, parts: Iterable[int], shares: int
    ) -> None:
        self.lengths, self.seed, self.size, self.first = lengths, seed, size, first
        self.parts, self.shares = parts, shares

    def __iter__(self) -> Iterator[np.ndarray]:
        epoch, skip = divmod(self.first, batches_per_epoch(len(self.lengths), self.size))
        while True:
            for batch in epoch_order(self.lengths, seed=self.seed, epoch=epoch, batch_size=self.size)[skip:]:
                # The epoch's smaller batch may have fewer examples than shares: then some are in several, because
                # a rank without any would leave the others waiting.
                filled = np.resize(batch, max(len(batch), self.shares))
                for part in self.parts:
                    yield filled[part :: self.shares]
            epoch, skip = epoch + 1, 0


def eval_batches(samples: Samples, batch_size: int) -> Iterator[Batch]:
    """All examples once, longest first (so that a batch too big for the memory fails at once).

    Each batch has `index` too: the example numbers (int64), with which to put the outputs back in order.
    """
    import torch

    order = np.argsort(-samples.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        yield samples.batch(chosen) | {"index": torch.from_numpy(chosen)}
