"""Differences of accuracy at equal rank, and how sure they are.

Shapes: P prompts, N ranks, S clusterings. NaN never enters: what a prompt lacks has weight 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BIN = 15
"""Ranks a stratum."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % bootstrap interval over prompts."""

    value: float
    low: float
    high: float

    def scores(self, name: str) -> dict[str, float]:
        """Three scores: `name`, `name`_low and `name`_high, × 100."""
        return {name: 100 * self.value, f"{name}_low": 100 * self.low, f"{name}_high": 100 * self.high}


def matched_parts(
    right: np.ndarray, inside: np.ndarray, counted: np.ndarray, first_rank: int
) -> tuple[np.ndarray, np.ndarray]:
    """Numerator and denominator (P,) of the Mantel-Haenszel risk difference, outside − inside.

    Strata are prompt × bins of BIN ranks, their weights n_in · n_out / n (Greenland and Robins 1985), so a stratum with one
    side alone says nothing.

    right, inside, counted: bool (P, N) of ranks first_rank, first_rank + 1, …; what is not counted is left out.
    """
    bins = (np.arange(right.shape[1]) + first_rank - 1) // BIN
    above, below = np.zeros(len(right)), np.zeros(len(right))
    for number in np.unique(bins):
        chosen = bins == number
        here, hit, use = inside[:, chosen], right[:, chosen], counted[:, chosen]
        n_in, n_out = (here & use).sum(axis=1), (~here & use).sum(axis=1)
        weight = n_in * n_out / np.maximum(n_in + n_out, 1)
        rate_in = (hit & here & use).sum(axis=1) / np.maximum(n_in, 1)
        rate_out = (hit & ~here & use).sum(axis=1) / np.maximum(n_out, 1)
        above += weight * (rate_out - rate_in)
        below += weight
    return above, below


def matched_difference(
    right: np.ndarray, inside: np.ndarray, counted: np.ndarray, first_rank: int, seed: int = 0
) -> Interval:
    """The difference outside − inside at equal rank, the mean of S clusterings; prompts are drawn again together.

    inside: bool (S, P, N); right, counted: bool (P, N). All 0 where no stratum has both sides.
    """
    parts = [matched_parts(right, labels, counted, first_rank) for labels in inside]
    above, below = (np.stack(side) for side in zip(*parts, strict=True))
    return bootstrap(above, below, seed)


def bootstrap(above: np.ndarray, below: np.ndarray, seed: int = 0) -> Interval:
    """Mean over S of Σ above / Σ below, both (S, P), with its percentile interval over resampled prompts."""

    def ratio(rows: np.ndarray) -> np.ndarray:
        top, bottom = above[:, rows].sum(axis=-1), below[:, rows].sum(axis=-1)
        whole: np.ndarray = np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0).mean(axis=0)
        return whole

    count = above.shape[1]
    draws = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    low, high = np.quantile(ratio(draws), [0.025, 0.975])
    return Interval(float(ratio(np.arange(count)[None])[0]), float(low), float(high))


def cosine_slope(
    right: np.ndarray, cosine: np.ndarray, first_rank: int, seed: int = 0, resamples: int = 100
) -> Interval:
    """Log-odds of being right for one sd of `cosine` (P, N), beside log rank and an intercept a prompt.

    The continuous check, which needs no clusters: below 0, nearness to the top ranks goes with being wrong.
    """
    from sklearn.linear_model import LogisticRegression

    prompts, ranks = right.shape
    logs = np.log(np.arange(ranks) + first_rank)
    spread = cosine.std() or 1.0
    features = np.concatenate(
        [
            ((cosine - cosine.mean()) / spread).reshape(-1, 1),
            np.tile(logs - logs.mean(), prompts)[:, None],
            np.repeat(np.eye(prompts), ranks, axis=0),
        ],
        axis=1,
    )
    hit = right.flatten()
    if hit.all() or not hit.any():
        return Interval(0.0, 0.0, 0.0)

    def slope(weights: np.ndarray) -> float:
        model = LogisticRegression(C=10.0, max_iter=200)
        rows = np.repeat(weights, ranks)
        used = rows > 0
        if len(set(hit[used])) < 2:
            return 0.0
        return float(model.fit(features[used], hit[used], sample_weight=rows[used]).coef_[0, 0])

    draw = np.random.default_rng(seed)
    values = [
        slope(np.bincount(draw.integers(prompts, size=prompts), minlength=prompts)) for _ in range(resamples)
    ]
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(slope(np.ones(prompts)), float(low), float(high))
