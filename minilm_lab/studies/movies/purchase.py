"""How likely a user is to see a movie: logistic regression on distance, frequency and predicted popularity.

Fitted on the validation split (older releases, whose visitors are known), applied to the split that is judged: nothing of
it is looked at. Judged are all users with a history, also those who see nothing new.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from minilm_lab.errors import LabError
from minilm_lab.studies.movies import ridge, scorers
from minilm_lab.studies.movies.scene import Scene, View
from minilm_lab.studies.recommendation.splits import Split

Floats = NDArray[np.float64]
FEATURES = ("score", "frequency", "popularity")
PENALTY = 10.0
"""Of the ridge regression from texts to popularity."""


@dataclass(frozen=True)
class Chances:
    """Probabilities of one scene, and the same without the distance, and the plain rate of the validation split."""

    probability: Floats
    """(users, items)."""
    without: Floats
    """(users, items) of frequency and popularity alone: what the distance adds is the difference."""
    rate: float
    """Share of the validation pairs that came true."""
    weights: dict[str, float]
    """Of the standardised features, and ``intercept``."""
    judged: NDArray[np.bool_]
    """(users, items) candidates of users with a history."""


def chances(scores: Floats, validation: Floats, scene: Scene) -> Chances:
    """Fit on the validation split's scores (users, items), apply to `scores`.

    LabError where nobody, or everybody, came on the validation split.
    """
    fitted, applied = features(validation, scene.inner), features(scores, scene.view)
    inner, outer = _pairs(scene.inner_split), _pairs(scene.split)
    came = scene.inner_split.test[inner]
    if came.all() or not came.any():
        raise LabError(f"{scene.name}: a probability needs visitors and others on the validation split.")
    centre, spread = fitted[0][inner].mean(), max(float(fitted[0][inner].std()), 1e-9)
    fitted[0], applied[0] = (fitted[0] - centre) / spread, (applied[0] - centre) / spread
    whole, part = _logistic([f[inner] for f in fitted], came), _logistic([f[inner] for f in fitted[1:]], came)
    return Chances(
        _applied(whole, applied),
        _applied(part, applied[1:]),
        float(came.mean()),
        dict(zip((*FEATURES, "intercept"), map(float, whole), strict=True)),
        outer,
    )


def features(scores: Floats, view: View) -> list[Floats]:
    """(users, items) each of `FEATURES`: the score as it is; log of the history's length, standardised over users with
    one; predicted log popularity, standardised over the movies that were trained on."""
    size = np.log1p(view.train.sum(axis=1).astype(np.float64))
    size = _standard(size, size > 0)
    if view.encoded is not None:
        popularity = ridge.predicted_popularity(view, PENALTY)
    else:
        popularity = np.log1p(scorers.genre_popularity(view.genres, view.train)[0])
    shape = view.train.shape
    return [
        scores.copy(),
        np.broadcast_to(size[:, None], shape),
        np.broadcast_to(_standard(popularity, view.known), shape),
    ]


def _standard(values: Floats, among: NDArray[np.bool_]) -> Floats:
    spread = float(values[among].std())
    standard: Floats = (values - values[among].mean()) / (spread if spread > 1e-9 else 1.0)
    return standard


def _pairs(split: Split) -> NDArray[np.bool_]:
    history: NDArray[np.bool_] = np.asarray(split.train.any(axis=1))
    pairs: NDArray[np.bool_] = split.candidates & history[:, None]
    return pairs


def _logistic(columns: list[Floats], came: NDArray[np.bool_]) -> Floats:
    """Weights and, last, the intercept."""
    from sklearn.linear_model import LogisticRegression

    # Next to no penalty: three numbers from many pairs.
    model = LogisticRegression(C=1e4, max_iter=500).fit(np.stack(columns, axis=1), came)
    return np.append(model.coef_[0], model.intercept_[0])


def _applied(weights: Floats, columns: list[Floats]) -> Floats:
    total = weights[-1] + sum(weight * column for weight, column in zip(weights[:-1], columns, strict=True))
    probability: Floats = expit(np.asarray(total))
    return probability
