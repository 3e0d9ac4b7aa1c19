"""Are probabilities true? Brier score, log loss, a reliability curve, and the same by how often a customer comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minilm_lab.studies.movies.purchase import Chances
from minilm_lab.studies.movies.scene import Scene
from minilm_lab.studies.recommendation import ranking

Floats = NDArray[np.float64]
BINS = 10
TIERS = ("casual", "regular", "frequent")
"""Thirds of the users with a history, by its length."""


def brier(probability: Floats, came: NDArray[np.bool_]) -> Floats:
    """(pairs,) squared differences of a probability and what came of it."""
    each: Floats = (probability - came) ** 2
    return each


def log_loss(probability: Floats, came: NDArray[np.bool_]) -> Floats:
    """(pairs,) −log of the probability of what came."""
    sure = np.clip(probability, 1e-12, 1 - 1e-12)
    each: Floats = -np.log(np.where(came, sure, 1 - sure))
    return each


def reliability(probability: Floats, came: NDArray[np.bool_], bins: int = BINS) -> list[dict[str, float]]:
    """Pairs in order of their probability in `bins` equal parts: mean probability, share that came, and how many."""
    order = np.argsort(probability, kind="stable")
    return [
        {
            "predicted": float(probability[part].mean()),
            "observed": float(came[part].mean()),
            "pairs": len(part),
        }
        for part in np.array_split(order, bins)
        if len(part)
    ]


def calibration_error(curve: Sequence[dict[str, float]]) -> float:
    """Mean over pairs of |predicted − observed| of their part of the curve."""
    pairs = sum(part["pairs"] for part in curve)
    return sum(part["pairs"] * abs(part["predicted"] - part["observed"]) for part in curve) / pairs


def tier_of(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(users,) 0, 1, 2 for thirds of those with a history by its length, equal lengths together; −1 without one."""
    tiers = np.full(len(sizes), -1)
    some = sizes > 0
    edges = np.quantile(sizes[some], [1 / 3, 2 / 3])
    tiers[some] = np.searchsorted(edges, sizes[some], side="left")
    return tiers


def judged(chances: Sequence[Chances], scenes: Sequence[Scene]) -> tuple[dict[str, float], dict[str, Any]]:
    """Scores and facts over all (user, candidate) pairs of all scenes.

    Scores: brier and log_loss × 100, each with _without (frequency and popularity alone) and _rate (the validation split's
    rate for everybody), calibration_error in points, pooled_auc. Facts: the curve, tiers, weights, paired differences.
    """
    came = np.concatenate([s.split.test[c.judged] for c, s in zip(chances, scenes, strict=True)])
    ours = np.concatenate([c.probability[c.judged] for c in chances])
    without = np.concatenate([c.without[c.judged] for c in chances])
    rate = np.concatenate([np.full(int(c.judged.sum()), c.rate) for c in chances])
    who = np.concatenate([np.nonzero(c.judged)[0] for c in chances])
    tiers = np.concatenate(
        [
            tier_of(s.view.train.sum(axis=1))[np.nonzero(c.judged)[0]]
            for c, s in zip(chances, scenes, strict=True)
        ]
    )
    scores: dict[str, float] = {}
    for name, of_pair in (("brier", brier), ("log_loss", log_loss)):
        for suffix, probability in (("", ours), ("_without", without), ("_rate", rate)):
            scores[f"{name}{suffix}"] = 100 * float(of_pair(probability, came).mean())
    curve = reliability(ours, came)
    scores["calibration_error"] = 100 * calibration_error(curve)
    if came.any() and not came.all():
        scores["pooled_auc"] = 100 * ranking.pooled_auc(ours[None], came[None])
    facts = {
        "rate": float(came.mean()),
        "predicted_rate": float(ours.mean()),
        "weights": [c.weights for c in chances],
        "curve": curve,
        "log_loss_less": {
            "without": _less(log_loss(ours, came) - log_loss(without, came), who),
            "rate": _less(log_loss(ours, came) - log_loss(rate, came), who),
        },
        "tiers": {
            name: _tier(tiers == number, ours, without, came, who) for number, name in enumerate(TIERS)
        },
    }
    return scores, facts


def _less(differences: Floats, who: NDArray[np.int64]) -> list[float]:
    """Mean and interval over users of the mean difference of their pairs, × 100."""
    total, count = np.bincount(who, differences), np.bincount(who)
    each = total[count > 0] / count[count > 0]
    return [round(100 * float(value), 3) for value in (each.mean(), *ranking.interval(each, seed=0))]


def _tier(
    there: NDArray[np.bool_], ours: Floats, without: Floats, came: NDArray[np.bool_], who: NDArray[np.int64]
) -> dict[str, Any]:
    if not there.any():
        return {"users": 0}
    found: dict[str, Any] = {
        "users": len(np.unique(who[there])),
        "rate": float(came[there].mean()),
        "predicted_rate": float(ours[there].mean()),
        "brier": 100 * float(brier(ours, came)[there].mean()),
        "log_loss": 100 * float(log_loss(ours, came)[there].mean()),
        "log_loss_without": 100 * float(log_loss(without, came)[there].mean()),
    }
    return found
