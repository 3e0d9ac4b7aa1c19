"""Rankings of several methods on one or more splits -> scores with intervals over users, and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from minilm_lab.studies.recommendation import ranking
from minilm_lab.studies.recommendation.ranking import METRICS, Ranking


@dataclass(frozen=True)
class Judged:
    """A method's metrics a user. A user who is judged on several splits counts once, with the mean of them: the
    intervals are over users."""

    users: pd.DataFrame
    """Index: row of the user; columns: `METRICS`, 0 to 1."""
    coverage: float
    """Mean over the splits."""
    pairs: int
    """(user, split) that were judged."""

    @classmethod
    def over(cls, rankings: Sequence[Ranking]) -> Judged:
        """The rankings of one method, one a split."""
        frames = [
            pd.DataFrame({metric: getattr(each, metric) for metric in METRICS}, index=each.users)
            for each in rankings
        ]
        whole = pd.concat(frames)
        users = whole.groupby(level=0).mean()
        return cls(users, float(np.mean([each.coverage for each in rankings])), len(whole))

    def scores(self, prefix: str = "") -> dict[str, float]:
        """Means in percent with the ends of their intervals: ``auc``, ``auc_low``, ``auc_high``, …"""
        scores: dict[str, float] = {}
        for metric in METRICS:
            values = self.users[metric].to_numpy(np.float64)
            low, high = ranking.interval(values, seed=0)
            named = {"": values.mean(), "_low": low, "_high": high}
            scores |= {f"{prefix}{metric}{end}": 100 * float(value) for end, value in named.items()}
        return scores

    def less(self, other: Judged) -> dict[str, list[float]]:
        """Metric -> mean and interval of this − other, paired over users, in points."""
        differences = self.users - other.users
        found: dict[str, list[float]] = {}
        for metric in METRICS:
            values = differences[metric].to_numpy(np.float64)
            found[metric] = [
                round(100 * float(value), 2) for value in (values.mean(), *ranking.interval(values, seed=0))
            ]
        return found
