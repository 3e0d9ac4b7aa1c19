"""Ranking metrics by full ranking: every candidate is ranked for every user; nothing is sampled.

Sampled candidates do not keep the order of two recommenders, not even in expectation (Krichene and Rendle, KDD 2020).
Ties take their mid-rank, so that a scorer that says the same of all gets what chance gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from minilm_lab.errors import LabError

Floats = NDArray[np.float64]
METRICS = ("auc", "ndcg", "recall", "mrr")


@dataclass(frozen=True)
class Ranking:
    """Metrics a user, of the users that can be judged, and how many could not."""

    users: NDArray[np.int64]
    """(judged,) row numbers of the users with at least one positive and one other candidate."""
    auc: Floats
    """(judged,) probability that a positive stands before another candidate; ties count half."""
    ndcg: Floats
    """(judged,) NDCG at ``cut``: Σ 1/log2(1 + rank) over positives with rank ≤ cut, over the best that can be had."""
    recall: Floats
    """(judged,) share of the user's positives with rank ≤ ``recall_cut``."""
    mrr: Floats
    """(judged,) 1 / rank of the first positive."""
    coverage: float
    """Share of the candidates that stand among the first ``cut`` of some judged user."""
    without_positive: int
    """Users without a positive among the candidates: left out."""
    without_negative: int
    """Users whose every candidate is a positive: left out."""

    def mean(self, metric: str) -> float:
        """Mean over the judged users."""
        return float(getattr(self, metric).mean())


def mid_ranks(scores: Floats) -> Floats:
    """(…, candidates) ranks from 1 = highest score: 1 + #{higher} + ½ #{others that are equal}.

    LabError for scores that are no numbers: such a row has no order.
    """
    if not np.isfinite(scores).all():
        raise LabError(f"{int((~np.isfinite(scores)).sum())} scores are not finite: they have no rank.")
    ranks: Floats = rankdata(-scores, method="average", axis=-1).astype(np.float64)
    return ranks


def rank(
    scores: Floats,
    positive: NDArray[np.bool_],
    candidate: NDArray[np.bool_] | None = None,
    *,
    cut: int = 10,
    recall_cut: int = 20,
) -> Ranking:
    """Judge scores (users, items) against positives (users, items).

    candidate: (users, items) or (items,), which items are ranked; None = all. What is none, such as an item that the
    user had in training, is neither positive nor negative.

    LabError: shapes that do not fit, a positive that is no candidate, fewer than two candidates, nobody to judge.
    """
    if scores.shape != positive.shape or scores.ndim != 2:
        raise LabError(f"scores {scores.shape} and positives {positive.shape} are not of one users × items.")
    ranked = np.ones_like(positive) if candidate is None else np.broadcast_to(candidate, positive.shape)
    if (stray := int((positive & ~ranked).sum())) > 0:
        raise LabError(f"{stray} positives are not among the candidates.")
    if ranked.any(axis=0).sum() < 2:
        raise LabError("A catalogue of one item, or none, cannot be ranked: give two or more candidates.")
    positives, others = positive.sum(axis=1), (ranked & ~positive).sum(axis=1)
    users = np.flatnonzero((positives > 0) & (others > 0))
    if not len(users):
        raise LabError(
            f"Nobody can be judged: of {len(scores)} users {int((positives == 0).sum())} have no positive in the test "
            "period; choose another date."
        )
    rows, shown = [], np.zeros(positive.shape[1], dtype=bool)
    for user in users:
        where = np.flatnonzero(ranked[user])
        ranks = mid_ranks(scores[user, where].astype(np.float64))
        shown[where[ranks <= cut]] = True
        rows.append(_of_user(np.sort(ranks[positive[user, where]]), len(where), cut, recall_cut))
    auc, ndcg, recall, mrr = np.asarray(rows, dtype=np.float64).T
    return Ranking(
        users=users.astype(np.int64),
        auc=auc,
        ndcg=ndcg,
        recall=recall,
        mrr=mrr,
        coverage=float(shown.sum() / ranked.any(axis=0).sum()),
        without_positive=int((positives == 0).sum()),
        without_negative=int(((others == 0) & (positives > 0)).sum()),
    )


def _of_user(ranks: Floats, candidates: int, cut: int, recall_cut: int) -> tuple[float, float, float, float]:
    """auc, ndcg, recall, mrr of one user, from the sorted ranks of the positives."""
    count = len(ranks)
    others = candidates - count
    # Pairs in the right order: all, less those in which another candidate stands before the positive.
    auc = 1 - (ranks.sum() - count * (count + 1) / 2) / (count * others)
    ideal = (1 / np.log2(1 + np.arange(1, min(count, cut) + 1))).sum()
    ndcg = (1 / np.log2(1 + ranks[ranks <= cut])).sum() / ideal
    return float(auc), float(ndcg), float((ranks <= recall_cut).mean()), float(1 / ranks[0])


def pooled_auc(
    scores: Floats, positive: NDArray[np.bool_], candidate: NDArray[np.bool_] | None = None
) -> float:
    """AUC of all (user, candidate) pairs in one list. It also rewards knowing who takes much: never a headline."""
    ranked = np.ones_like(positive) if candidate is None else np.broadcast_to(candidate, positive.shape)
    ranks = np.sort(mid_ranks(scores[ranked].astype(np.float64))[positive[ranked]])
    if not 0 < len(ranks) < int(ranked.sum()):
        raise LabError("A pooled AUC needs positives and other candidates.")
    return _of_user(ranks, int(ranked.sum()), 1, 1)[0]


def interval(values: Floats, *, seed: int, draws: int = 2000, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap over users of a mean; of a difference, give the differences a user (paired).

    values: (users,). A function of (values, seed). LabError for fewer than two users.
    """
    if len(values) < 2:
        raise LabError(f"An interval over users needs two or more of them, not {len(values)}.")
    chosen = np.random.default_rng(seed).integers(0, len(values), size=(draws, len(values)))
    low, high = np.quantile(values[chosen].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired(first: Ranking, second: Ranking, metric: str) -> Floats:
    """(judged,) first − second a user. LabError unless both judged the same users."""
    if not np.array_equal(first.users, second.users):
        raise LabError("The two rankings judged other users: their difference is not paired.")
    difference: Floats = getattr(first, metric) - getattr(second, metric)
    return difference


def summary(ranking: Ranking, *, seed: int = 0, metrics: Sequence[str] = METRICS) -> dict[str, float]:
    """Means in percent with the ends of their intervals: ``auc``, ``auc_low``, ``auc_high``, …"""
    scores: dict[str, float] = {}
    for metric in metrics:
        low, high = interval(getattr(ranking, metric), seed=seed)
        scores |= {
            metric: 100 * ranking.mean(metric),
            f"{metric}_low": 100 * low,
            f"{metric}_high": 100 * high,
        }
    return scores
