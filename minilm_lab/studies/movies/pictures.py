"""Pictures of the study: probabilities against what came, the gain by how often a customer comes, the space of movies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from minilm_lab.reports.drawing import COLOURS, CONTROL, FAINT, INK, WIDTH, Picture, style

Floats = NDArray[np.float64]


def calibration(curve: Sequence[dict[str, float]], scorer: str) -> Picture:
    """Reliability curve, both axes in percent and logarithmic: most probabilities are small."""
    predicted, observed = (
        np.asarray([100 * part[key] for part in curve]) for key in ("predicted", "observed")
    )
    least = 0.5 * min(predicted.min(), observed[observed > 0].min() if (observed > 0).any() else 1.0)
    most = 1.3 * max(predicted.max(), observed.max())
    with style():
        figure = Figure(figsize=(WIDTH, WIDTH), layout="constrained")
        axes = figure.subplots()
        axes.plot([least, most], [least, most], color=FAINT, linewidth=1)
        axes.plot(predicted, np.maximum(observed, least), color=COLOURS[0], marker="o", markersize=4)
        axes.set(
            xscale="log", yscale="log", xlabel="predicted, %", ylabel="came, %", title="Probability of coming"
        )
    words = f"{scorer}: {len(curve)} equal parts of the pairs; on the diagonal probabilities are true."
    return Picture(figure, "Probability of coming", words)


def tiers(differences: dict[str, dict[str, list[float]]], scorer: str) -> Picture:
    """Points of AUC of a scorer over others, by tier, with intervals. differences: other -> tier -> mean, low, high."""
    names = list(next(iter(differences.values())))
    with style():
        figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.axhline(0, color=FAINT, linewidth=1)
        for number, (other, by_tier) in enumerate(differences.items()):
            mean, low, high = np.asarray([by_tier[name] for name in names]).T
            place = np.arange(len(names)) + 0.12 * (number - (len(differences) - 1) / 2)
            axes.errorbar(
                place,
                mean,
                yerr=[mean - low, high - mean],
                fmt="o",
                color=COLOURS[number % len(COLOURS)],
                label=f"over {other}",
            )
        axes.set_xticks(range(len(names)), names)
        axes.set(ylabel="points of AUC", title=f"{scorer}: gain by customer")
        axes.legend(fontsize=8)
    words = "Difference of the mean AUC over users, by thirds of the length of their history, with 95 % intervals."
    return Picture(figure, f"Gain of {scorer} by customer", words)


def space(points: Floats, path: NDArray[np.int64], seen: NDArray[np.int64], titles: Sequence[str]) -> Picture:
    """Movies in two dimensions (the two first principal components), a user's way through them, and what they saw then.

    points: (items, width) of norm 1; path: the history in order of time; seen: the new movies that the user saw.
    """
    centred = points - points.mean(axis=0)
    _, _, axes_of = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ axes_of[:2].T
    with style():
        figure = Figure(figsize=(WIDTH, WIDTH), layout="constrained")
        axes = figure.subplots()
        axes.scatter(flat[:, 0], flat[:, 1], s=3, color=CONTROL, alpha=0.35, linewidths=0, rasterized=True)
        way = flat[path]
        axes.plot(way[:, 0], way[:, 1], color=COLOURS[0], linewidth=0.8, alpha=0.7)
        axes.scatter(way[:, 0], way[:, 1], s=12, color=COLOURS[0], label="history, in order")
        middle = way.mean(axis=0)
        axes.scatter(middle[:1], middle[1:], s=70, marker="x", color=INK, label="the user")
        axes.scatter(flat[seen, 0], flat[seen, 1], s=26, color=COLOURS[1], label="new, and seen")
        for item in seen[:4]:
            axes.annotate(titles[item][:24], flat[item], fontsize=7, color=INK)
        axes.set(xticks=[], yticks=[], title="A user's way")
        axes.legend(fontsize=8, loc="best")
    return Picture(
        figure, "A user's way through the space of movies", "Two principal components of the vectors."
    )


def by_tier(
    ours: Any, others: dict[str, Any], tier: NDArray[np.int64], names: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    """Other scorer -> tier -> mean, low, high of the paired difference of AUC in points; `Judged` in.

    A tier of fewer than two users is left out.
    """
    from minilm_lab.studies.recommendation.ranking import interval

    found: dict[str, dict[str, list[float]]] = {}
    place = tier[ours.users.index.to_numpy()]
    for other, judged in others.items():
        gap = (ours.users["auc"] - judged.users["auc"]).to_numpy(np.float64)
        found[other] = {
            name: [100 * float(value) for value in (part.mean(), *interval(part, seed=0))]
            for number, name in enumerate(names)
            if len(part := gap[place == number]) > 1
        }
    return found
