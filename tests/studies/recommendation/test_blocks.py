"""Ranks counted in blocks against scipy's mid-ranks of the whole row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from minilm_lab.errors import LabError
from minilm_lab.studies.recommendation.blocks import hits, mid_rank


@pytest.mark.parametrize(("examples", "block"), [(3, 7), (512, 65_536), (1, 1), (20, 50)])
def test_ranks_are_those_of_the_whole_row(examples: int, block: int) -> None:
    draw = np.random.default_rng(2)
    scores = np.round(draw.normal(size=(20, 50)), 1)  # many equal ones
    target = draw.integers(0, 50, size=20)
    table = torch.from_numpy(scores).float()
    got = mid_rank(
        lambda rows, items: table[rows, items], torch.from_numpy(target), 50, examples=examples, block=block
    )
    expected = rankdata(-table.numpy(), method="average", axis=1)[np.arange(20), target]
    assert got == pytest.approx(expected)


def test_a_scorer_that_says_the_same_of_all_ranks_in_the_middle() -> None:
    target = torch.tensor([0, 5, 9])
    assert mid_rank(
        lambda rows, items: torch.zeros(3, items.stop - items.start), target, 10, block=4
    ) == pytest.approx(5.5)


def test_hits_are_means_over_users() -> None:
    ranks, user = np.array([1.0, 30.0, 2.0, 20.5]), np.array([0, 0, 1, 2])
    scores = hits(ranks, user, cut=20)
    assert scores["recall"] == pytest.approx(100 * np.mean([0.5, 1, 0]))
    assert scores["ndcg"] == pytest.approx(100 * np.mean([0.5, 1 / np.log2(3), 0]))
    assert scores["mrr"] == pytest.approx(100 * np.mean([(1 + 1 / 30) / 2, 0.5, 1 / 20.5]))
    assert scores["mrr_low"] <= scores["mrr"] <= scores["mrr_high"]
    # Of two seeds the gains are averaged, not the ranks.
    both = hits(np.stack([ranks, np.full(4, 100.0)]), user, cut=20)
    assert both["recall"] == pytest.approx(scores["recall"] / 2)


def test_what_has_no_rank_is_refused() -> None:
    def flat(rows: slice, items: slice) -> torch.Tensor:
        return torch.zeros(rows.stop - rows.start, items.stop - items.start)

    with pytest.raises(LabError, match="A catalogue of one item"):
        mid_rank(flat, torch.tensor([0]), 1)
    with pytest.raises(LabError, match="2 targets are none of the 5 items"):
        mid_rank(flat, torch.tensor([0, 5, -1]), 5)
    with pytest.raises(LabError, match="10 scores are not finite"):
        mid_rank(lambda rows, items: flat(rows, items) / 0, torch.tensor([0, 1]), 5)
