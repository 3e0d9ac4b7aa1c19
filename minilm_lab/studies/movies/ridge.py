"""From a text to what the crowd did with movies of the past, by ridge regression: collaborative training in closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

from minilm_lab.studies.movies.scene import View
from minilm_lab.studies.movies.scorers import tying

Floats = NDArray[np.float64]


def predicted_popularity(view: View, penalty: float) -> Floats:
    """(items,) log(1 + interactions), predicted from the centred vectors of the movies trained on."""
    known = view.known
    counts = np.log1p(view.train.sum(axis=0).astype(np.float64))
    mean = counts[known].mean()
    return mean + view.centred @ _weights(view.centred[known], (counts[known] - mean)[:, None], penalty)[:, 0]


def popularity(view: View, penalty: float) -> Floats:
    """(users, items) predicted popularity: the same list for everybody."""
    return np.broadcast_to(tying(predicted_popularity(view, penalty)), view.train.shape).copy()


def factors(view: View, width: int, penalty: float) -> Floats:
    """(users, items) product of a user's factors and those predicted for an item from its text.

    Factors: truncated SVD of the histories, each item's column divided by the root of its count, so that the most seen
    movies do not take all of them; of a user, the sum over the history of the items' factors. Like
    DropoutNet's idea in closed form: what interactions say is learned as a function of the text.
    """
    known = np.flatnonzero(view.known)
    had = view.train[:, known].astype(np.float64) / np.sqrt(view.train[:, known].sum(axis=0))
    width = min(width, min(had.shape) - 1)
    # A start of its own: ARPACK's would be drawn anew each time.
    _, strength, rows = svds(csr_matrix(had), k=width, v0=np.ones(min(had.shape)))
    items = np.asarray((strength[:, None] * rows).T, dtype=np.float64)
    users = view.train[:, known] @ items
    mean = items.mean(axis=0)
    predicted = mean + view.centred @ _weights(view.centred[known], items - mean, penalty)
    return tying(users @ predicted.T)


def _weights(vectors: Floats, targets: Floats, penalty: float) -> Floats:
    """(width, targets) of least squares with a penalty on their squares."""
    gram = vectors.T @ vectors + penalty * np.eye(vectors.shape[1])
    return np.asarray(np.linalg.solve(gram, vectors.T @ targets), dtype=np.float64)
