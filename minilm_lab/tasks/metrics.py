"""Scores of classes and values on the papers' scale (0 to 100), each with its definition for the record."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from minilm_lab.errors import LabError

log = logging.getLogger(__name__)

# scikit-learn and scipy are imported where they are used: together they take a second, and every command
# that only composes a configuration imports this module to check the names of metrics.

OF_CLASSES = {
    "accuracy": "100 x share of examples whose predicted class is the label",
    "f1": "100 x binary F1 of class 1 (sklearn.metrics.f1_score); 0 if it is never predicted",
    "f1_macro": "100 x unweighted mean over classes of F1 (sklearn.metrics.f1_score)",
    "matthews": "100 x Matthews correlation coefficient (sklearn.metrics.matthews_corrcoef); 0 if one class is "
    "predicted",
}
"""Metrics of predicted classes: name -> definition."""
OF_VALUES = {
    "pearson": "100 x Pearson correlation (scipy.stats.pearsonr); 0 if predictions are constant",
    "spearman": "100 x Spearman rank correlation, ties averaged (scipy.stats.spearmanr); 0 if predictions are "
    "constant",
    "sign_accuracy": "100 x share of examples whose prediction is on the reference's side of zero",
}
"""Metrics of predicted values: name -> definition."""
OF_DIFFERENT = ("pearson", "spearman")
"""Metrics that do not exist where all references are equal: they are left out there."""
CORRELATIONS = ("matthews", "pearson", "spearman")
"""Metrics that are not defined where all predictions are equal: 0 there, never NaN."""


def _functions() -> dict[str, Callable[[Any, Any], Any]]:
    """Metric -> function of references and predictions."""
    from scipy import stats
    from sklearn import metrics

    return {
        "accuracy": metrics.accuracy_score,
        "f1": partial(metrics.f1_score, zero_division=0.0),
        "f1_macro": partial(metrics.f1_score, average="macro", zero_division=0.0),
        "matthews": metrics.matthews_corrcoef,
        "pearson": lambda references, predictions: stats.pearsonr(predictions, references).statistic,
        "spearman": lambda references, predictions: stats.spearmanr(predictions, references).statistic,
        "sign_accuracy": lambda references, predictions: np.mean((predictions > 0) == (references > 0)),
    }


def check_finite(outputs: Sequence[np.ndarray] | np.ndarray, task: str) -> None:
    """Raise LabError when something that a module says is not finite."""
    broken = sum(1 for output in outputs if not np.isfinite(output).all())
    if broken:
        raise LabError(
            f"{broken} of {len(outputs)} predictions for task '{task}' are not finite: the training diverged. "
            f"Lower the learning rate."
        )


def exists(name: str, references: np.ndarray) -> bool:
    """Whether a metric is defined for these references."""
    return name not in OF_DIFFERENT or bool((references != references[0]).any())


def score(
    names: Sequence[str], predictions: np.ndarray, references: Sequence[float] | np.ndarray
) -> dict[str, float]:
    """The metrics `names` of predictions and references, one entry an example (class numbers or values).

    What does not exist for these references is left out, and said."""
    functions, scores, references = _functions(), {}, np.asarray(references)
    for name in names:
        if not exists(name, references):
            log.warning("All %d references are equal: there is no %s; left out.", len(references), name)
        elif name in CORRELATIONS and bool((predictions == predictions[0]).all()):
            log.warning("All %d predictions are equal: %s is 0 by definition.", len(predictions), name)
            scores[name] = 0.0
        else:
            scores[name] = 100.0 * float(functions[name](references, predictions))
    return scores


def score_groups(
    names: Sequence[str], predictions: np.ndarray, references: np.ndarray, groups: Sequence[str]
) -> dict[str, float]:
    """`score` of each group (one name an example), and the unweighted mean over them, as papers average languages.

    Group "fr" gives "accuracy_fr"; "accuracy" is the mean.
    """
    members = {group: np.asarray(groups) == group for group in sorted({*groups})}
    apart = {group: score(names, predictions[rows], references[rows]) for group, rows in members.items()}
    known = {name: [scores[name] for scores in apart.values() if name in scores] for name in names}
    means = {name: float(np.mean(values)) for name, values in known.items() if values}
    return means | {
        f"{name}_{group}": value for group, scores in apart.items() for name, value in scores.items()
    }
