"""Metric learning: epoch 0 is the centred cosine, losses are their formulas, nothing of the positive leaks into the user."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from minilm_lab.errors import LabError
from minilm_lab.studies.movies import methods, metric_learning, metric_space, scorers
from minilm_lab.studies.movies.metric_learning import LOSSES, Pairs, epochs, negatives
from minilm_lab.studies.movies.metric_space import MetricSpace
from minilm_lab.studies.movies.scene import Scene, View
from minilm_lab.studies.movies.training import Negatives, Network, Training, User
from minilm_lab.studies.recommendation.splits import Split

KINDS = 3


def view_of(training: Training, seed: int = 0) -> View:
    """Forty users who see movies of one kind; two axes of a text tell the kind faintly, the others nothing."""
    draw = np.random.default_rng(5)
    kind = np.arange(60) % KINDS
    corners = np.asarray([[1.0, 0], [-0.5, 0.87], [-0.5, -0.87]])[kind]
    vectors = np.concatenate([0.5 * corners, 0.6 * draw.normal(size=(60, 10))], axis=1) + 0.3
    train = draw.random((40, 60)) < np.where(np.arange(40)[:, None] % KINDS == kind, 0.5, 0.05)
    age = train * draw.random(train.shape)
    return View(train, age, [""] * 60, np.zeros((60, 0), bool), vectors, 5, seed, training)


@pytest.mark.parametrize("network", list(Network))
@pytest.mark.parametrize("user", list(User))
@pytest.mark.parametrize("loss", LOSSES)
def test_epoch_0_is_the_centred_cosine(network: Network, user: User, loss: str) -> None:
    view = view_of(Training(network=network, user=user))
    untrained = next(epochs(view, loss, 1e-3, 0))
    np.testing.assert_allclose(untrained, scorers.centred_cosine(view.vectors, view.train), atol=1e-9)


@pytest.mark.parametrize("kind", list(Negatives))
@pytest.mark.parametrize("loss", LOSSES)
def test_training_finds_the_axes_that_matter(loss: str, kind: Negatives) -> None:
    view = view_of(Training(negatives=kind, count=20, batch_size=64, covariance=0.0))
    held_out = np.arange(60) >= 45
    seen = replace(view, train=view.train & ~held_out, age=view.age * ~held_out)
    first, *_, last = epochs(seen, loss, 5e-3, 8)
    right = (np.arange(40)[:, None] % KINDS == np.arange(60) % KINDS)[:, held_out]

    def auc(scores: np.ndarray) -> float:
        good, bad = scores[:, held_out][right], scores[:, held_out][~right]
        return float((good[:, None] > bad).mean())

    assert auc(last) > auc(first) + 0.02


def test_attention_learns_and_repeats() -> None:
    view = view_of(Training(user=User.attention, batch_size=64, count=20))
    runs = [list(epochs(view, "softmax", 5e-3, 2)) for _ in range(2)]
    for first, second in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, second)
    assert np.abs(runs[0][2] - runs[0][0]).max() > 1e-3


def test_attention_is_a_weighted_mean() -> None:
    space = MetricSpace(3, Training(user=User.attention), 0).double()
    with torch.no_grad():
        space.nearness.fill_(2.0)
        space.recency.fill_(-1.0)
    draw = np.random.default_rng(0)
    near, ages = draw.normal(size=(2, 4, 5)), draw.random((2, 4))
    there = np.asarray([[True, True, False, True], [True] * 4])
    length = np.asarray([0.5, 2.0])
    got = space.affinity(*map(torch.from_numpy, (near, ages, there, length))).detach().numpy()
    for user in range(2):
        for movie in range(5):
            here = near[user, there[user], movie]
            weights = np.exp(2 * here - ages[user, there[user]])
            assert got[user, movie] == pytest.approx((weights * here).sum() / weights.sum() / length[user])


def test_losses_are_their_formulas() -> None:
    draw = np.random.default_rng(1)
    positive, negative = draw.uniform(-1, 1, 5), draw.uniform(-1, 1, (5, 7))
    allowed = draw.random((5, 7)) < 0.7
    allowed[4] = False  # nothing to compare with
    tensors = [torch.from_numpy(x) for x in (positive, negative, allowed)]
    log_q = np.log(draw.dirichlet(np.ones(7)))
    hinges, crossed, ranked = [], [], []
    for pair in range(5):
        here = negative[pair, allowed[pair]]
        gaps = [0.5 + (2 - 2 * positive[pair]) - (2 - 2 * other) for other in here]
        rank = 40 * np.mean([gap > 0 for gap in gaps]) if gaps else 0.0
        hinges.append(np.log(1 + rank) * max([0.0, *gaps]))
        others = (negative[pair] / 0.2 - log_q)[allowed[pair]]
        crossed.append(-log_softmax([positive[pair] / 0.2, *others])[0])
        ranked += [np.log1p(np.exp(-(positive[pair] - other) / 0.2)) for other in here]
    assert metric_space.cml(*tensors, 0.5, 40).item() == pytest.approx(np.mean(hinges))
    assert metric_space.softmax(*tensors, 0.2, torch.from_numpy(log_q)).item() == pytest.approx(
        np.mean(crossed)
    )
    assert metric_space.bpr(*tensors, 0.2).item() == pytest.approx(np.mean(ranked))


def test_covariances_of_either_sign_cost() -> None:
    """The published code adds signed covariances, and these two would cancel."""
    x = torch.tensor([1.0, -1.0, 2.0, -2.0], dtype=torch.float64)
    points = torch.stack([x, x, -x], dim=1)
    signed = torch.from_numpy(np.cov(points.numpy().T, bias=True))
    expected = 3 * (signed.square().sum() - signed.diagonal().square().sum())
    assert metric_space.covariance(points).item() == pytest.approx(expected.item()) and expected > 1
    assert metric_space.covariance(torch.eye(2, dtype=torch.float64)[:, :1]).item() == 0


def test_negatives_are_a_function_of_seed_and_step() -> None:
    view = view_of(Training())
    pairs = Pairs.of(view)
    settings = Training(count=300, negatives=Negatives.popular)
    draws = [negatives(pairs, pairs.items[:4], settings, (0, step))[0] for step in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    many = negatives(pairs, pairs.items[:4], replace(settings, count=100_000), (0, 0))[0].numpy()
    weights = pairs.counts**0.75
    np.testing.assert_allclose(np.bincount(many, minlength=60) / 1e5, weights / weights.sum(), atol=4e-3)
    other, log_q = negatives(pairs, pairs.items[:4], replace(settings, negatives=Negatives.batch), (0, 0))
    np.testing.assert_array_equal(other.numpy(), pairs.items[:4])
    np.testing.assert_allclose(np.exp(log_q), pairs.counts[pairs.items[:4]] / pairs.counts.sum(), rtol=1e-5)


def test_the_movie_at_hand_is_not_in_the_user() -> None:
    """With it in their mean, a movie that nobody else is like would be near its viewers for free."""
    view = view_of(Training(batch_size=4, count=5))
    pairs = Pairs.of(view)
    space = MetricSpace(12, view.training, 0)
    vectors = torch.from_numpy(view.centred.astype(np.float32))
    seen = {}

    def spy(positive: torch.Tensor, *_: object) -> torch.Tensor:
        seen["positive"] = positive
        return positive.sum()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metric_space, "softmax", spy)
        chosen = np.arange(4)
        metric_learning._loss(
            space,
            vectors,
            torch.from_numpy(view.train),
            metric_learning._Histories(view),
            pairs,
            chosen,
            "softmax",
            view.training,
            (0, 0),
        )
    for pair in range(4):
        user, item = pairs.users[pair], pairs.items[pair]
        others = view.train[user] & (np.arange(60) != item)
        mean = view.centred[others].sum(axis=0)
        expected = mean @ view.centred[item] / np.linalg.norm(mean)
        assert seen["positive"][pair].item() == pytest.approx(expected, abs=1e-5)


def test_epoch_0_is_chosen_where_training_does_not_help() -> None:
    """Interactions that have nothing to do with the texts: what is learned from them is noise."""
    view = view_of(Training(epochs=2, learning_rates=[0.05], batch_size=64))
    draw = np.random.default_rng(9)
    noise = replace(view, train=draw.random((40, 60)) < 0.2)
    new, newer = np.arange(60) >= 30, np.arange(60) >= 45
    cold = Split(noise.train & ~new, view.train & new & ~newer, np.broadcast_to(new & ~newer, (40, 60)))
    split = Split(noise.train & ~newer, view.train & newer, np.broadcast_to(newer, (40, 60)))
    scene = Scene(
        "s",
        split,
        replace(noise, train=split.train, age=split.train * 1.0),
        cold,
        replace(noise, train=cold.train, age=cold.train * 1.0),
    )
    found = methods.scored("cml", scene, "auc")
    best = max(found.tried, key=lambda tried: tried["auc"])
    assert [tried["epoch"] for tried in found.tried] == [0, 1, 2]
    assert found.chosen["epoch"] == best["epoch"]
    if best["epoch"] == 0:
        np.testing.assert_array_equal(found.scores, methods.scored("centred_cosine", scene, "auc").scores)


def test_what_cannot_be_trained() -> None:
    lonely = view_of(Training())
    lonely = replace(lonely, train=np.eye(40, 60, dtype=bool))
    with pytest.raises(LabError, match="users with two or more movies"):
        list(epochs(lonely, "cml", 1e-3, 1))
    lost = replace(view_of(Training(batch_size=64)), encoded=np.full((60, 12), np.nan))
    with pytest.raises(LabError, match=r"no longer finite at learning rate 0\.1"):
        list(epochs(lost, "softmax", 0.1, 1))
    for settings, message in (
        ({"count": 0}, r"evaluator\.training\.count=0"),
        ({"margin": 0.0}, r"evaluator\.training\.margin=0"),
        ({"covariance": -1.0}, r"evaluator\.training\.covariance=-1"),
        ({"learning_rates": []}, "give one or more"),
    ):
        with pytest.raises(LabError, match=message):
            Training(**settings)  # type: ignore[arg-type]
