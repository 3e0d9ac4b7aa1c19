"""The difference at equal rank against an example by hand, and what shuffled labels give."""

from __future__ import annotations

import numpy as np
import pytest

from minilm_lab.studies.knowledge.matched import bootstrap, cosine_slope, matched_difference, matched_parts


def test_mantel_haenszel_by_hand() -> None:
    # One prompt, ranks 11 to 30: a bin of 11 to 15 and one of 16 to 30.
    right = np.array([[1, 1, 0, 0, 1] + [1] * 3 + [0] * 12], dtype=bool)
    inside = np.array([[1, 1, 1, 0, 0] + [1] * 10 + [0] * 5], dtype=bool)
    everything = np.ones_like(right)
    # First: in 2 of 3, out 1 of 2, weight 6/5. Second: in 3 of 10, out 0 of 5, weight 50/15.
    first, second = 6 / 5, 50 / 15
    above = first * (1 / 2 - 2 / 3) + second * (0 - 3 / 10)
    got = matched_parts(right, inside, everything, 11)
    assert got[0][0] == pytest.approx(above) and got[1][0] == pytest.approx(first + second)
    # Without the last rank of the first bin: in 2 of 3, out 0 of 1, weight 3/4.
    counted = everything.copy()
    counted[0, 4] = False
    got = matched_parts(right, inside, counted, 11)
    assert got[0][0] == pytest.approx(3 / 4 * (0 - 2 / 3) + second * (0 - 3 / 10))
    value = matched_difference(right, inside[None], everything, 11).value
    assert value == pytest.approx(above / (first + second))


def drawn(seed: int, effect: float, prompts: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy falls with rank, tokens inside rank better, and inside costs `effect`."""
    draw = np.random.default_rng(seed)
    ranks = np.arange(11, 101)
    inside = draw.random((prompts, 90)) < 0.9 - ranks / 150
    chance = 0.6 - ranks / 300 - effect * inside
    return draw.random((prompts, 90)) < chance, inside


def test_rank_alone_makes_a_raw_difference_and_no_matched_one() -> None:
    right, inside = drawn(0, 0.0, 400)
    assert right[~inside].mean() - right[inside].mean() < -0.03
    assert abs(matched_difference(right, inside[None], np.ones_like(right), 11).value) < 0.02
    right, inside = drawn(0, 0.1, 400)
    assert matched_difference(right, inside[None], np.ones_like(right), 11).value == pytest.approx(
        0.1, abs=0.02
    )


def test_intervals_of_shuffled_labels_hold_zero() -> None:
    held = 0
    for seed in range(100):
        right, inside = drawn(seed, 0.1)
        shuffled = np.random.default_rng(seed).permuted(inside, axis=1)
        interval = matched_difference(right, shuffled[None], np.ones_like(right), 11)
        held += interval.low <= 0 <= interval.high
    assert held >= 90


def test_a_bootstrap_draws_prompts() -> None:
    values = np.random.default_rng(1).normal(3, 1, 50)
    interval = bootstrap(values[None], np.ones((1, 50)))
    error = 1.96 * values.std() / 50**0.5
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * error, rel=0.1)
    nothing = bootstrap(np.zeros((1, 5)), np.zeros((1, 5)))
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)


def test_the_slope_on_the_cosine() -> None:
    draw = np.random.default_rng(2)
    cosine = draw.normal(size=(20, 90))
    logit = -1 - 0.8 * cosine
    right = draw.random((20, 90)) < 1 / (1 + np.exp(-logit))
    slope = cosine_slope(right, cosine, 11, resamples=20)
    assert slope.low < -0.8 < slope.high and slope.high < 0
    assert cosine_slope(np.zeros((2, 9), dtype=bool), cosine[:2, :9], 11).value == 0
