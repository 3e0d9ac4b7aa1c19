"""Untrained scorers of movies, and the baselines beside them: (users, items) float64, higher is better."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from minilm_lab.errors import LabError
from minilm_lab.studies.recommendation.splits import Matrix

Floats = NDArray[np.float64]


def cosine(vectors: Floats, train: Matrix) -> Floats:
    """Cosine of an item and the mean of a user's history; vectors: (items, width)."""
    scaled = unit(vectors)
    return tying(unit(train @ scaled) @ scaled.T)


def centred_cosine(vectors: Floats, train: Matrix) -> Floats:
    """Cosine of an item and the mean of a user's history, after taking off the mean of all items that were trained on.

    vectors: (items, width). What all plots have in common says nothing of a taste: uncentred, it dominates.
    """
    return cosine(vectors - vectors[train.any(axis=0)].mean(axis=0), train)


def neighbours(vectors: Floats | sparse.csr_matrix, train: Matrix, k: int) -> Floats:
    """Mean cosine of an item and the k nearest items of a user's history; of shorter histories, all of them."""
    if isinstance(vectors, np.ndarray):
        scaled = unit(vectors)
        return nearest(scaled @ scaled.T, train, k)
    return nearest(np.asarray((vectors @ vectors.T).todense(), dtype=np.float64), train, k)  # norm 1


def nearest(similar: Floats, train: Matrix, k: int) -> Floats:
    """Mean of the k largest `similar` (items of a history, items) of a user's history."""
    scores = np.zeros(train.shape)
    for user, had in enumerate(train):
        near = similar[np.flatnonzero(had)]
        if len(near) > k:
            near = np.partition(near, len(near) - k, axis=0)[-k:]
        if len(near):
            scores[user] = near.mean(axis=0)
    return tying(scores)


def profile(words: sparse.csr_matrix, train: Matrix) -> Floats:
    """Cosine of an item's words and the mean of a user's history; words: (items, words) of norm 1."""
    return tying(unit(sparse.csr_matrix(train, dtype=np.float64) @ words @ words.T.toarray()))


def bm25(texts: list[str], train: Matrix, k: int) -> Floats:
    """Mean BM25 of an item for the texts of the k items of a user's history that find it best.

    A movie of the history is the query, all texts are the documents: their words are known before anybody goes.

    LabError without the package bm25s.
    """
    try:
        import bm25s
    except ImportError as error:
        raise LabError("bm25_knn needs bm25s: pip install 'minilm-lab[movies]'") from error

    logging.getLogger("bm25s").setLevel(logging.WARNING)
    tokens = bm25s.tokenize(texts, stopwords="en", return_ids=False, show_progress=False)
    index = bm25s.BM25()
    index.index(tokens, show_progress=False)
    similar = np.zeros((len(texts), len(texts)))
    for item in np.flatnonzero(train.any(axis=0)):
        query = sorted(set(tokens[item]) & set(index.vocab_dict))
        if query:
            similar[item] = index.get_scores(query)
    return nearest(similar, train, k)


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


def user_genres(genres: Matrix, train: Matrix) -> Floats:
    """Share of a user's history that has a genre, mean over an item's genres; an item without genre gets 0."""
    share = (train.astype(np.float64) @ genres) / np.maximum(train.sum(axis=1, keepdims=True), 1)
    return tying(share @ genres.T.astype(np.float64) / np.maximum(genres.sum(axis=1), 1))


def tf_idf(texts: list[str], train: Matrix) -> sparse.csr_matrix:
    """(items, words) of norm 1; words and their weights come from the items that were trained on.

    LabError where their texts have no word in common.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True, stop_words="english", min_df=2)
    try:
        words.fit([texts[item] for item in np.flatnonzero(train.any(axis=0))])
    except ValueError as error:
        raise LabError(f"TF-IDF finds no word that two texts of the histories share ({error}).") from error
    return words.transform(texts)


def tying(scores: Floats) -> Floats:
    """Equal texts must tie, whatever the order in which a product was summed."""
    rounded: Floats = np.round(scores, 10)
    return rounded


def unit(vectors: Floats) -> Floats:
    """Rows of norm 1; zeros stay."""
    scaled: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return scaled
