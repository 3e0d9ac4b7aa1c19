"""Every scorer of the study by name: what it reads, where it can be used, between which settings it chooses.

A choice is made on the validation split of a `Scene`, never on the test.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minilm_lab.studies.movies import metric_learning, ridge, scorers, warm
from minilm_lab.studies.movies.scene import Scene
from minilm_lab.studies.recommendation import ranking

log = logging.getLogger(__name__)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Method:
    """A scorer: (view, settings) -> (users, items)."""

    scores: Callable[..., Floats]
    grid: dict[str, tuple[Any, ...]] | None = None
    """Setting -> values, all combinations of which are tried on the validation split."""
    reads_vectors: bool = False
    trained: bool = False
    """By `metric_learning`: `grid` is its settings' own, and epochs are chosen too."""
    warm: bool = False
    """Knows items by their interactions only: of no use for new ones."""


@dataclass(frozen=True)
class Scored:
    """What a method says, and how it came to its settings."""

    scores: Floats
    """(users, items) on the split that is judged."""
    validation: Floats
    """(users, items) on the validation split, with the same settings."""
    chosen: dict[str, Any]
    """Setting -> value; empty where nothing was chosen."""
    tried: list[dict[str, Any]]
    """Every setting with its score on the validation split."""


PENALTIES = (1.0, 10.0, 100.0, 1000.0)
METHODS: dict[str, Method] = {
    "centred_cosine": Method(lambda v: scorers.centred_cosine(v.vectors, v.train), reads_vectors=True),
    "cosine": Method(lambda v: scorers.cosine(v.vectors, v.train), reads_vectors=True),
    "knn": Method(lambda v: scorers.neighbours(v.centred, v.train, v.k), reads_vectors=True),
    "ridge_popularity": Method(ridge.popularity, {"penalty": PENALTIES}, reads_vectors=True),
    "ridge_factors": Method(
        ridge.factors, {"width": (16, 32, 64, 128), "penalty": PENALTIES}, reads_vectors=True
    ),
    **{name: Method(lambda v: v.train, reads_vectors=True, trained=True) for name in metric_learning.LOSSES},
    "genre_popularity": Method(lambda v: scorers.genre_popularity(v.genres, v.train)),
    "user_genres": Method(lambda v: scorers.user_genres(v.genres, v.train)),
    "tf_idf_profile": Method(lambda v: scorers.profile(v.words, v.train)),
    "tf_idf_knn": Method(lambda v: scorers.neighbours(v.words, v.train, v.k)),
    "bm25_knn": Method(lambda v: scorers.bm25(v.texts, v.train, v.k)),
    "popularity": Method(lambda v: warm.popularity(v.train), warm=True),
    "item_knn": Method(lambda v, near: warm.item_knn(v.train, near), {"near": (20, 50, 100, 200)}, warm=True),
    "ease": Method(
        lambda v, penalty: warm.ease(v.train, penalty),
        {"penalty": (100.0, 300.0, 1000.0, 3000.0, 10000.0)},
        warm=True,
    ),
    "bpr": Method(
        lambda v, factors: warm.bpr(v.train, factors, v.seed), {"factors": (16, 32, 64)}, warm=True
    ),
    "als": Method(
        lambda v, factors: warm.als(v.train, factors, v.seed), {"factors": (16, 32, 64)}, warm=True
    ),
}
ORACLE = "oracle"
"""Popularity in the test itself: what one list for everybody could reach at most. It looks at the answers."""
NAMES = (*METHODS, ORACLE)


def scored(name: str, scene: Scene, by: str) -> Scored:
    """The scores of a method on a scene, its settings chosen by the metric `by` on the validation split."""
    if name == ORACLE:
        return Scored(warm.popularity(scene.split.test), warm.popularity(scene.inner_split.test), {}, [])
    method = METHODS[name]
    if method.trained:
        return _trained(name, scene, by)
    if method.grid is None:
        return Scored(method.scores(scene.view), method.scores(scene.inner), {}, [])
    best: tuple[float, dict[str, Any], Floats] | None = None
    tried = []
    for values in product(*method.grid.values()):
        settings = dict(zip(method.grid, values, strict=True))
        scores = method.scores(scene.inner, **settings)
        value = validation_score(scores, scene, by)
        tried.append({**settings, by: 100 * value})
        if best is None or value > best[0]:
            best = (value, settings, scores)
    assert best is not None
    log.info("%s, %s: %s by validation %s %.1f", scene.name, name, best[1], by, 100 * best[0])
    return Scored(method.scores(scene.view, **best[1]), best[2], best[1], tried)


def _trained(name: str, scene: Scene, by: str) -> Scored:
    """Learning rate and epoch, from 0 on, by the validation split; then as many epochs on all of the training part."""
    best: tuple[float, float, int, Floats] | None = None
    tried = []
    for rate in scene.inner.training.learning_rates:
        for epoch, scores in enumerate(
            metric_learning.epochs(scene.inner, name, rate, scene.inner.training.epochs)
        ):
            value = validation_score(scores, scene, by)
            tried.append({"learning_rate": rate, "epoch": epoch, by: 100 * value})
            if best is None or value > best[0]:  # epoch 0 stands first: a tie is no reason to train
                best = (value, rate, epoch, scores)
    assert best is not None
    value, rate, epoch, validation = best
    log.info("%s, %s: epoch %d at %g by validation %s %.1f", scene.name, name, epoch, rate, by, 100 * value)
    *_, last = metric_learning.epochs(scene.view, name, rate, epoch)
    return Scored(last, validation, {"learning_rate": rate, "epoch": epoch}, tried)


def validation_score(scores: Floats, scene: Scene, by: str) -> float:
    """Mean over users of a metric on the validation split."""
    inner = scene.inner_split
    return ranking.rank(scores, inner.test, inner.candidates).mean(by)
