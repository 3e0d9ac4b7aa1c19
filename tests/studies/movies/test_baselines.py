"""Baselines against the formula, scikit-learn and implicit; what is chosen is chosen on older releases."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from minilm_lab.errors import LabError
from minilm_lab.studies.movies import methods, ridge, scorers, warm
from minilm_lab.studies.movies.scene import Scene, View
from minilm_lab.studies.recommendation.splits import Split

needs_extra = pytest.mark.skipif(importlib.util.find_spec("implicit") is None, reason="the extra `movies`")


@pytest.fixture
def view() -> View:
    draw = np.random.default_rng(3)
    train = draw.random((12, 9)) < 0.4
    train[:, 8] = False  # a movie that nobody saw
    words = ["love", "war", "space", "night", "sea"]
    texts = [" ".join(draw.choice(words, size=4)) for _ in range(9)]
    genres = draw.random((9, 3)) < 0.4
    return View(train, np.zeros(train.shape), texts, genres, draw.normal(size=(9, 5)), 2, 0)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_ease_is_its_closed_form(shape: tuple[int, int]) -> None:
    train = np.random.default_rng(0).random(shape) < 0.5
    had = train.astype(float)
    inverse = np.linalg.inv(had.T @ had + 3.0 * np.eye(shape[1]))
    weights = np.eye(shape[1]) - inverse / np.diag(inverse)
    np.testing.assert_allclose(np.diag(weights), 0, atol=1e-9)
    np.testing.assert_allclose(warm.ease(train, 3.0), had @ weights, atol=1e-8)


@needs_extra
def test_item_knn_is_that_of_implicit(view: View) -> None:
    from implicit.nearest_neighbours import CosineRecommender
    from scipy.sparse import csr_matrix

    model = CosineRecommender(K=9, num_threads=1)
    model.fit(csr_matrix(view.train.astype(np.float64)), show_progress=False)
    similar = model.similarity.toarray()
    np.fill_diagonal(similar, 0)
    np.testing.assert_allclose(warm.item_knn(view.train, 9), view.train @ similar, atol=1e-6)


def test_item_knn_keeps_the_nearest(view: View) -> None:
    few, had = warm.item_knn(view.train, 1), view.train.astype(float)
    norm = np.sqrt(np.maximum(had.sum(axis=0), 1))
    similar = had.T @ had / np.outer(norm, norm) - np.eye(9) * (had.sum(axis=0) > 0)
    for user, item in ((0, 0), (3, 5), (7, 2)):
        ties = similar[item] >= similar[item].max()
        assert few[user, item] == pytest.approx((similar[item] * ties)[view.train[user]].sum())


@needs_extra
@pytest.mark.parametrize("name", ["als", "bpr"])
def test_factors_of_implicit_repeat_and_fit(name: str) -> None:
    groups = np.arange(24)[:, None] % 2 == np.arange(16)[None] % 2
    train = groups & (np.random.default_rng(1).random(groups.shape) < 0.6)
    scores = getattr(warm, name)(train, 4, 0)
    np.testing.assert_array_equal(scores, getattr(warm, name)(train, 4, 0))
    assert scores[groups & ~train].mean() > scores[~groups].mean()


@needs_extra
def test_bm25_is_its_formula(view: View) -> None:
    documents = [text.split() for text in view.texts]
    mean = np.mean([len(words) for words in documents])

    def bm25(query: set[str], words: list[str]) -> float:  # Lucene's: k1 1.5, b 0.75
        total = 0.0
        for word in query:
            frequency = words.count(word)
            holds = sum(word in other for other in documents)
            rarity = np.log(1 + (9 - holds + 0.5) / (holds + 0.5))
            total += rarity * frequency / (frequency + 1.5 * (1 - 0.75 + 0.75 * len(words) / mean))
        return total

    got = scorers.bm25(view.texts, view.train, 2)
    for user in (0, 5):
        for item in (1, 8):
            all_of = sorted(
                bm25(set(documents[had]), documents[item]) for had in np.flatnonzero(view.train[user])
            )
            assert got[user, item] == pytest.approx(np.mean(all_of[-2:]), abs=1e-5)


def test_ridge_is_that_of_scikit_learn(view: View) -> None:
    known = np.arange(8)
    counts = np.log1p(view.train[:, :8].sum(axis=0))
    library = Ridge(alpha=2.0).fit(view.centred[known], counts)
    # Vectors of norm 1 are no longer centred, so the library fits an intercept of its own; ours is the mean count.
    plain = Ridge(alpha=2.0, fit_intercept=False).fit(view.centred[known], counts - counts.mean())
    got = ridge.predicted_popularity(view, 2.0)
    np.testing.assert_allclose(got, plain.predict(view.centred) + counts.mean(), atol=1e-9)
    assert np.corrcoef(got, library.predict(view.centred))[0, 1] > 0.9


def test_factors_without_penalty_are_those_of_the_histories(view: View) -> None:
    """With as many numbers a text as movies, each movie's factors can be met."""
    rich = View(view.train, view.age, view.texts, view.genres, np.eye(9), 2, 0)
    got = ridge.factors(rich, 7, 1e-9)[:, :8]
    had = view.train[:, :8] / np.sqrt(view.train[:, :8].sum(axis=0))
    _, strength, rows = np.linalg.svd(had, full_matrices=False)
    items = (strength[:7, None] * rows[:7]).T
    np.testing.assert_allclose(got, view.train[:, :8] @ items @ items.T, atol=1e-4)


def test_user_genres(view: View) -> None:
    got = scorers.user_genres(view.genres, view.train)
    share = view.genres[view.train[4]].mean(axis=0)
    for item in range(9):
        kinds = view.genres[item]
        assert got[4, item] == pytest.approx(share[kinds].mean() if kinds.any() else 0.0)


def test_settings_are_chosen_without_a_look_at_the_test(view: View) -> None:
    train, test = view.train.copy(), np.zeros_like(view.train)
    test[:, 7], train[:, 7] = train[:, 7], False
    new = np.arange(9) >= 7
    inner_new = (np.arange(9) >= 4) & ~new
    inner = View(train & ~inner_new, view.age, view.texts, view.genres, view.encoded, 2, 0)
    outer = View(train, view.age, view.texts, view.genres, view.encoded, 2, 0)
    split = Split(train, test, np.broadcast_to(new, train.shape))
    cold = Split(train & ~inner_new, train & inner_new, np.broadcast_to(inner_new, train.shape))
    first = methods.scored("ridge_factors", Scene("s", split, outer, cold, inner), "auc")
    other = Split(train, ~test & new, split.candidates)
    second = methods.scored("ridge_factors", Scene("s", other, outer, cold, inner), "auc")
    assert first.chosen == second.chosen and len(first.tried) == 16
    np.testing.assert_array_equal(first.scores, second.scores)
    best = max(first.tried, key=lambda tried: tried["auc"])
    assert {name: best[name] for name in first.chosen} == first.chosen


def test_without_the_extra_it_is_said(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bm25s", None)
    monkeypatch.setitem(__import__("sys").modules, "implicit.als", None)
    with pytest.raises(LabError, match=r"minilm-lab\[movies\]"):
        scorers.bm25(view.texts, view.train, 2)
    with pytest.raises(LabError, match=r"minilm-lab\[movies\]"):
        warm.als(view.train, 2, 0)
