"""Ranking metrics against scikit-learn and loops in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import ndcg_score, roc_auc_score

from minilm_lab.errors import LabError
from minilm_lab.studies.recommendation.ranking import interval, mid_ranks, paired, pooled_auc, rank


def drawn(users: int = 30, items: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(users, items)), draw.random((users, items)) < 0.15


def test_metrics_are_scikit_learns_where_nothing_ties() -> None:
    scores, positive = drawn()
    got = rank(scores, positive)
    for row, user in enumerate(got.users):
        assert got.auc[row] == pytest.approx(roc_auc_score(positive[user], scores[user]))
        assert got.ndcg[row] == pytest.approx(ndcg_score(positive[user][None], scores[user][None], k=10))
        order = np.argsort(-scores[user])
        assert got.recall[row] == pytest.approx(positive[user, order[:20]].sum() / positive[user].sum())
        assert got.mrr[row] == pytest.approx(1 / (1 + np.flatnonzero(positive[user, order])[0]))
    assert pooled_auc(scores, positive) == pytest.approx(roc_auc_score(positive.ravel(), scores.ravel()))


def test_ties_take_their_mid_rank() -> None:
    scores, positive = drawn()
    coarse = np.round(scores)  # many ties
    for row in coarse:
        by_hand = [1 + sum(o > s for o in row) + (sum(o == s for o in row) - 1) / 2 for s in row]
        assert mid_ranks(row).tolist() == by_hand
    got = rank(coarse, positive)
    for row, user in enumerate(got.users):
        assert got.auc[row] == pytest.approx(roc_auc_score(positive[user], coarse[user]))


def test_a_constant_scorer_gets_chance() -> None:
    got = rank(np.zeros((3, 50)), np.eye(3, 50, dtype=bool))
    assert got.auc.tolist() == [0.5] * 3
    assert got.ndcg.tolist() == got.recall.tolist() == [0.0] * 3
    assert got.mrr.tolist() == pytest.approx([1 / 25.5] * 3)
    assert got.coverage == 0


def test_only_candidates_are_ranked_and_who_cannot_be_judged_is_counted() -> None:
    scores, positive = drawn(4, 12)
    positive[:] = False
    positive[1, 3] = positive[2, :6] = True
    candidate = np.ones_like(positive)
    candidate[1, 5:] = False  # what a user had is not ranked
    candidate[2, 6:] = False
    got = rank(scores, positive, candidate)
    assert got.users.tolist() == [1]
    assert (got.without_positive, got.without_negative) == (2, 1)
    assert got.auc[0] == pytest.approx(roc_auc_score(positive[1, :5], scores[1, :5]))


def test_the_interval_is_the_bootstraps_and_pairs_need_the_same_users() -> None:
    values = np.random.default_rng(0).normal(2, 1, size=400)
    low, high = interval(values, seed=3)
    assert (low, high) == interval(values, seed=3)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)
    scores, positive = drawn()
    first, second = rank(scores, positive), rank(-scores, positive)
    assert paired(first, second, "auc") == pytest.approx(2 * first.auc - 1)
    with pytest.raises(LabError, match="judged other users"):
        paired(first, rank(scores[1:], positive[1:]), "auc")


def test_bad_input_is_named() -> None:
    scores, positive = drawn(3, 5)
    with pytest.raises(LabError, match="1 scores are not finite"):
        mid_ranks(np.asarray([1.0, math.nan]))
    with pytest.raises(LabError, match="catalogue of one"):
        rank(scores[:, :1], positive[:, :1])
    with pytest.raises(LabError, match="of 3 users 3 have no positive"):
        rank(scores, np.zeros_like(positive))
    with pytest.raises(LabError, match="positives are not among the candidates"):
        rank(scores, np.ones_like(positive), np.asarray([True, True, True, False, True]))
    with pytest.raises(LabError, match="two or more"):
        interval(np.ones(1), seed=0)
