"""Untrained scorers of new movies, and the baselines beside them: (users, items) float64, higher is better."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from minilm_lab.studies.recommendation.splits import Matrix

Floats = NDArray[np.float64]


def centred_cosine(vectors: Floats, train: Matrix) -> Floats:
    """Cosine of an item and the mean of a user's history, after taking off the mean of all items that were trained on.

    vectors: (items, width). What all plots have in common says nothing of a taste: uncentred, it dominates.
    """
    unit = _unit(vectors - vectors[train.any(axis=0)].mean(axis=0))
    profile = train @ unit
    return _tying(_unit(profile) @ unit.T)


def neighbours(vectors: Floats | sparse.csr_matrix, train: Matrix, k: int) -> Floats:
    """Mean cosine of an item and the k nearest items of a user's history; of shorter histories, all of them."""
    if isinstance(vectors, np.ndarray):
        unit = _unit(vectors)
        similar = unit @ unit.T
    else:
        similar = np.asarray((vectors @ vectors.T).todense(), dtype=np.float64)  # rows of TF-IDF have norm 1
    scores = np.zeros(train.shape)
    for user, had in enumerate(train):
        near = similar[np.flatnonzero(had)]
        if len(near):
            scores[user] = np.sort(near, axis=0)[-k:].mean(axis=0)
    return _tying(scores)


def genre_popularity(genres: Matrix, train: Matrix) -> Floats:
    """The same list for everybody: mean interactions of the trained-on items of a genre, mean over an item's genres.

    genres: (items, genres). An item without genre gets the mean of all.
    """
    known: Matrix = np.asarray(train.any(axis=0))
    popularity = train.sum(axis=0).astype(np.float64)
    members = (genres & known[:, None]).astype(np.float64)
    mean = popularity[known].mean()
    count = members.sum(axis=0)
    of_genre = np.where(count > 0, (popularity @ members) / np.maximum(count, 1), mean)
    many = genres.sum(axis=1)
    of_item = np.where(many > 0, (genres @ of_genre) / np.maximum(many, 1), mean)
    return np.broadcast_to(of_item, train.shape).astype(np.float64)


def tf_idf(texts: list[str], train: Matrix) -> sparse.csr_matrix:
    """(items, words) of norm 1; words and their weights come from the items that were trained on."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True, stop_words="english", min_df=2)
    words.fit([texts[item] for item in np.flatnonzero(train.any(axis=0))])
    return words.transform(texts)


def _tying(scores: Floats) -> Floats:
    """Equal texts must tie, whatever the order in which a product was summed."""
    rounded: Floats = np.round(scores, 10)
    return rounded


def _unit(vectors: Floats) -> Floats:
    scaled: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return scaled
