"""Which block is sample n: a pure function of the seed and n."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BATCHES_PER_GROUP = 50
"""Items are sorted by length inside groups of this many batches."""


class Order:
    """Sample number -> position in a list of `count` items: a new permutation of all of them every epoch.

    Sample n is in epoch n // count. Nothing but (seed, n) matters: no state, no number of workers or ranks. With
    `lengths`, (count,), the `batch` samples from a multiple of `batch` on have similar ones; an epoch then has whole
    batches only, and leaves out a few items, others each time.
    """

    def __init__(
        self, seed: int, count: int, lengths: npt.NDArray[np.integer] | None = None, batch: int = 1
    ) -> None:
        self.seed = seed
        self.count = count if lengths is None else count - count % batch
        self._items, self._lengths, self._batch = count, lengths, batch
        # One epoch at a time is kept; replaced as a whole, so that threads never see a half-made one.
        self._kept: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def __call__(self, samples: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the position of each sample number; both (samples,), int64."""
        epochs, places = np.divmod(samples, self.count)
        positions = np.empty_like(places)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            positions[here] = self._permutation(int(epoch))[places[here]]
        return positions

    def _permutation(self, epoch: int) -> npt.NDArray[np.int64]:
        kept_epoch, permutation = self._kept
        if kept_epoch != epoch:
            generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch])))
            permutation = generator.permutation(self._items)[: self.count]
            if self._lengths is not None:
                group = BATCHES_PER_GROUP * self._batch
                batches = np.concatenate(
                    [
                        part[np.argsort(self._lengths[part], kind="stable")]
                        for part in np.split(permutation, range(group, self.count, group))
                    ]
                ).reshape(-1, self._batch)
                permutation = generator.permutation(batches).reshape(-1)
            self._kept = (epoch, permutation)
        return permutation
