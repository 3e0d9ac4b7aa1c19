"""A distribution that goes through published percentiles: what a log-normal fit only comes near to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
_NEAR = 1e-9


@dataclass(frozen=True)
class Quantiles:
    """Positive values, log-linear between knots over the normal score: between two knots a piece of a log-normal."""

    knots: tuple[tuple[float, float], ...]
    """(probability, value), both rising."""

    def __call__(self, uniform: Floats) -> Floats:
        """The value at each probability, float64 of the shape of `uniform`."""
        at, value = np.asarray(self.knots, dtype=np.float64).T
        scores = ndtri(np.clip(at, _NEAR, 1 - _NEAR))
        values: Floats = np.exp(np.interp(ndtri(np.clip(uniform, _NEAR, 1 - _NEAR)), scores, np.log(value)))
        return values

    def counts(self, uniform: Floats) -> NDArray[np.int64]:
        """The value rounded down, at least 1."""
        return np.maximum(1, np.floor(self(uniform))).astype(np.int64)


def spread(count: int, draw: np.random.Generator) -> Floats:
    """(count,) uniform numbers, one in each of `count` equal steps, shuffled: percentiles that hardly vary by seed."""
    values: Floats = draw.permutation((np.arange(count) + draw.random(count)) / max(1, count))
    return values
