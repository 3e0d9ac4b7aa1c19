"""Scores on the papers' scale (0 to 100), each with its definition for the record."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from minilm_lab.errors import LabError, nearest

if TYPE_CHECKING:
    from minilm_lab.tasks.base import Task

log = logging.getLogger(__name__)

# scikit-learn and scipy are imported where they are used: together they take a second, and every command
# that only composes a configuration imports this module to check the names of metrics.


def _accuracy(predictions: np.ndarray, references: np.ndarray) -> float:
    return float(np.mean(predictions == references))


def _f1(predictions: np.ndarray, references: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, pos_label=1, average="binary", zero_division=0.0))


def _f1_macro(predictions: np.ndarray, references: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, average="macro", zero_division=0.0))


def _matthews(predictions: np.ndarray, references: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    return 0.0 if _constant("matthews", predictions) else float(matthews_corrcoef(references, predictions))


def _pearson(predictions: np.ndarray, references: np.ndarray) -> float:
    from scipy.stats import pearsonr

    return 0.0 if _constant("pearson", predictions) else float(pearsonr(predictions, references).statistic)


def _spearman(predictions: np.ndarray, references: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return 0.0 if _constant("spearman", predictions) else float(spearmanr(predictions, references).statistic)


def _sign_accuracy(predictions: np.ndarray, references: np.ndarray) -> float:
    return float(np.mean((predictions > 0) == (references > 0)))


@dataclass(frozen=True)
class Metric:
    """A function of predictions and references with values from −1 or 0 to 1, and what it is."""

    compute: Callable[[np.ndarray, np.ndarray], float]
    #: What it compares: "class" numbers or "value"s.
    of: str
    definition: str


_METRICS = {
    "accuracy": Metric(_accuracy, "class", "100 x share of examples whose predicted class is the label"),
    "f1": Metric(
        _f1, "class", "100 x binary F1 of class 1 (sklearn.metrics.f1_score); 0 if it is never predicted"
    ),
    "f1_macro": Metric(
        _f1_macro, "class", "100 x unweighted mean over classes of F1 (sklearn.metrics.f1_score)"
    ),
    "matthews": Metric(
        _matthews,
        "class",
        "100 x Matthews correlation coefficient (sklearn.metrics.matthews_corrcoef); 0 if one class is predicted",
    ),
    "pearson": Metric(
        _pearson, "value", "100 x Pearson correlation (scipy.stats.pearsonr); 0 if predictions are constant"
    ),
    "spearman": Metric(
        _spearman,
        "value",
        "100 x Spearman rank correlation, ties averaged (scipy.stats.spearmanr); 0 if predictions are constant",
    ),
    "sign_accuracy": Metric(
        _sign_accuracy, "value", "100 x share of examples whose prediction is on the reference's side of zero"
    ),
}

#: Name of a metric -> its definition, for records and captions.
DEFINITIONS: dict[str, str] = {name: metric.definition for name, metric in _METRICS.items()}


def fitting(decides: str) -> dict[str, str]:
    """The metrics for predictions that are a "class" or a "value": name -> definition."""
    return {name: metric.definition for name, metric in _METRICS.items() if metric.of == decides}


def check(name: str, decides: str, known: Mapping[str, str] | None = None) -> None:
    """Raise LabError unless there is a metric `name` for predictions that are a "class" or a "value".

    known: the metrics there are, for predictions that are something else.
    """
    known = fitting(decides) if known is None else known
    if name not in known:
        raise LabError(
            f"task.metrics: '{name}' does not fit predictions that are a {decides}; "
            f"there are: {', '.join(known)}.{nearest(name, known)}"
        )


def score(
    task: Task, predictions: Sequence[float] | np.ndarray, references: Sequence[float] | np.ndarray
) -> dict[str, float]:
    """Compute the task's metrics from `predictions` (see ``Task.predictions``) and the split's `references`.

    Both have one entry an example. Correlations of constant predictions are 0 (with a logged warning), never
    NaN. Raises LabError when a prediction is not finite.
    """
    predicted, expected = np.asarray(predictions), np.asarray(references)
    if predicted.shape != expected.shape or predicted.ndim != 1 or not len(predicted):
        raise ValueError(
            f"score needs one prediction for each reference: {predicted.shape}, {expected.shape}"
        )
    broken = int(np.count_nonzero(~np.isfinite(predicted)))
    if broken:
        raise LabError(
            f"{broken} of {len(predicted)} predictions for task '{task.name}' are not finite: the training "
            f"diverged. Lower the learning rate."
        )
    return {name: 100.0 * _METRICS[name].compute(predicted, expected) for name in task.metrics}


def score_groups(
    task: Task,
    predictions: np.ndarray,
    references: Sequence[float] | np.ndarray,
    groups: Sequence[str] | None,
) -> dict[str, float]:
    """Compute `score`, and where there are `groups` (one name an example) the mean over them and each one's own.

    Group "fr" gives "accuracy_fr"; "accuracy" is then the unweighted mean over the groups, as papers average
    languages.
    """
    if groups is None:
        return score(task, predictions, references)
    names, expected = np.asarray(groups), np.asarray(references)
    apart = {
        name: score(task, predictions[names == name], expected[names == name]) for name in sorted({*groups})
    }
    means = {metric: float(np.mean([own[metric] for own in apart.values()])) for metric in task.metrics}
    return means | {f"{m}_{name}": value for name, own in apart.items() for m, value in own.items()}


def _constant(name: str, predictions: np.ndarray) -> bool:
    constant = bool(np.all(predictions == predictions[0]))
    if constant:
        log.warning("All %d predictions are equal: %s is 0 by definition.", len(predictions), name)
    return constant
