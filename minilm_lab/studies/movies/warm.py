"""Recommenders that know items by who had them: they have no word on a film that is not out yet.

(users, items) float64, higher is better. Own code where it is a closed form, else `implicit` (the extra ``movies``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from minilm_lab.errors import LabError
from minilm_lab.studies.movies.scorers import tying
from minilm_lab.studies.recommendation.splits import Matrix

Floats = NDArray[np.float64]


def popularity(train: Matrix) -> Floats:
    """How many had the item: the same list for everybody."""
    return np.broadcast_to(train.sum(axis=0).astype(np.float64), train.shape).copy()


def item_knn(train: Matrix, near: int) -> Floats:
    """Σ over a user's history of the cosine of two items' users, of each item's `near` nearest others.

    Deshpande and Karypis (2004).
    """
    had = train.astype(np.float64)
    norm = np.sqrt(np.maximum(had.sum(axis=0), 1))
    similar = (had.T @ had) / np.outer(norm, norm)
    np.fill_diagonal(similar, 0)
    if near < len(similar):
        least = np.partition(similar, len(similar) - near, axis=1)[:, -near][:, None]
        similar = np.where(similar >= least, similar, 0)
    return tying(had @ similar.T)


def ease(train: Matrix, penalty: float) -> Floats:
    """The linear item-item model without diagonal in closed form: Steck (WWW 2019).

    B = I − P / diag(P), P = (XᵀX + penalty·I)⁻¹. With fewer users than items the inverse is taken among the users:
    X·P = (XXᵀ + penalty·I)⁻¹X, and no items × items matrix is made.
    """
    had = train.astype(np.float64)
    users, items = had.shape
    if users <= items:
        through = np.linalg.solve(had @ had.T + penalty * np.eye(users), had)
        diagonal = (1 - (had * through).sum(axis=0)) / penalty
    else:
        inverse = np.linalg.inv(had.T @ had + penalty * np.eye(items))
        through, diagonal = had @ inverse, np.diag(inverse)
    return tying(had - through / diagonal)


def bpr(train: Matrix, factors: int, seed: int) -> Floats:
    """Matrix factors by Bayesian personalised ranking (Rendle et al. 2009), of `implicit`."""
    return _fitted(
        lambda library: library.bpr.BayesianPersonalizedRanking(
            factors=factors, iterations=100, random_state=seed, num_threads=1
        ),
        train,
    )


def als(train: Matrix, factors: int, seed: int) -> Floats:
    """Matrix factors by alternating least squares (Hu, Koren and Volinsky 2008), of `implicit`."""
    return _fitted(
        lambda library: library.als.AlternatingLeastSquares(
            factors=factors, iterations=15, random_state=seed, num_threads=1
        ),
        train,
    )


def _fitted(build: Callable[[Any], Any], train: Matrix) -> Floats:
    with threadpool_limits(1, "blas"):  # the library has threads of its own
        model = build(_implicit())
        model.fit(sparse.csr_matrix(train, dtype=np.float32), show_progress=False)
    scores: Floats = model.user_factors.astype(np.float64) @ model.item_factors.T.astype(np.float64)
    return scores


def _implicit() -> Any:
    try:
        import implicit.als
        import implicit.bpr
    except ImportError as error:
        raise LabError("bpr and als need implicit: pip install 'minilm-lab[movies]'") from error
    return implicit
