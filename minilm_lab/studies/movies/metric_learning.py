"""Training of the metric space on a view, epoch by epoch, and the choice of learning rate and epoch on older releases.

Epoch 0 is the untrained metric, the centred cosine, and may be chosen. The order of interactions is a function of
(seed, epoch), negatives are one of (seed, step).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding, normalize

from minilm_lab.errors import LabError
from minilm_lab.studies.movies import metric_space
from minilm_lab.studies.movies.metric_space import MetricSpace
from minilm_lab.studies.movies.scene import View
from minilm_lab.studies.movies.scorers import tying, unit
from minilm_lab.studies.movies.training import Negatives, Training, User

log = logging.getLogger(__name__)
Floats = NDArray[np.float64]
LOSSES = ("cml", "softmax", "text_bpr")
HISTORY = 20
"""Movies of a history that attention looks at in training, the latest; all of them when it is judged."""


@dataclass(frozen=True)
class Pairs:
    """What is trained on: interactions of users who have another one."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    known: NDArray[np.int64]
    """Items from which negatives come."""
    counts: NDArray[np.int64]
    """(items,) interactions of each."""

    @classmethod
    def of(cls, view: View) -> Pairs:
        """The pairs of a view; LabError where no user has two movies."""
        several = view.train & (view.train.sum(axis=1) > 1)[:, None]
        users, items = np.nonzero(several)
        if not len(users):
            raise LabError("metric learning needs users with two or more movies in their history.")
        return cls(users, items, np.flatnonzero(view.known), view.train.sum(axis=0).astype(np.int64))


def epochs(view: View, loss: str, rate: float, last: int) -> Iterator[Floats]:
    """(users, items) scores after 0, 1, … `last` epochs."""
    settings = view.training
    space = MetricSpace(view.vectors.shape[1], settings, view.seed)
    yield scores(space, view)
    if not last:
        return
    pairs = Pairs.of(view)
    batch = min(settings.batch_size, len(pairs.users))
    optimizer = torch.optim.AdamW(space.parameters(), lr=rate, weight_decay=settings.decay)
    vectors = torch.from_numpy(view.centred.astype(np.float32))
    train = torch.from_numpy(view.train)
    histories = _Histories(view)
    step = 0
    for epoch in range(last):
        order = np.random.default_rng((view.seed, epoch)).permutation(len(pairs.users))
        for start in range(0, len(order) - batch + 1, batch):
            chosen = order[start : start + batch]
            value = _loss(space, vectors, train, histories, pairs, chosen, loss, settings, (view.seed, step))
            if not torch.isfinite(value):
                raise LabError(f"{loss} is no longer finite at learning rate {rate:g}; take a smaller one.")
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            step += 1
        yield scores(space, view)


def scores(space: MetricSpace, view: View) -> Floats:
    """(users, items) cosine of a movie and a user in the space, in float64; before training that of the centred vectors."""
    exact = copy.deepcopy(space).double()
    with torch.no_grad():
        points = exact(torch.from_numpy(view.centred)).numpy()
    means = view.train @ points / np.maximum(view.train.sum(axis=1, keepdims=True), 1)
    if not space.attentive:
        return tying(unit(means) @ points.T)
    found = np.zeros(view.train.shape)
    for user, had in enumerate(view.train):
        history = np.flatnonzero(had)
        if len(history):
            with torch.no_grad():
                found[user] = exact.affinity(
                    torch.from_numpy(points[history] @ points.T)[None],
                    torch.from_numpy(view.age[user, history])[None],
                    torch.ones(1, len(history), dtype=torch.bool),
                    torch.from_numpy(np.linalg.norm(means[user : user + 1], axis=1)),
                )[0].numpy()
    return tying(found)


class _Histories:
    """The latest movies of each user, padded: (users, history)."""

    def __init__(self, view: View) -> None:
        order = np.argsort(-view.age, axis=1, kind="stable")[:, :HISTORY]
        self.items = torch.from_numpy(order)
        self.ages = torch.from_numpy(np.take_along_axis(view.age, order, axis=1).astype(np.float32))
        self.visits = torch.from_numpy(view.train.astype(np.float32)).to_sparse()
        self.sizes = torch.from_numpy(view.train.sum(axis=1).astype(np.float32))

    def without(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Movies, their ages, and whether there is one, of the histories without the movie at hand: (pairs, history)."""
        history, ages = self.items[users], self.ages[users]
        return history, ages, (ages > 0) & (history != items[:, None])


def _loss(
    space: MetricSpace,
    vectors: Tensor,
    train: Tensor,
    histories: _Histories,
    pairs: Pairs,
    chosen: NDArray[np.int64],
    loss: str,
    settings: Training,
    place: tuple[int, int],
) -> Tensor:
    users, items = torch.from_numpy(pairs.users[chosen]), torch.from_numpy(pairs.items[chosen])
    against, log_q = negatives(pairs, pairs.items[chosen], settings, place)
    allowed = ~train[users][:, against]
    points = space(vectors)
    mine = embedding(items, points)  # whose gradient adds up faster than an index's
    others = embedding(against, points)
    # The history without the movie at hand: else a movie would be near whoever has it by being in their mean.
    sums = embedding(users, torch.sparse.mm(histories.visits, points)) - mine
    if settings.user is User.attention:
        history, ages, there = histories.without(users, items)
        own = (embedding(history, points) @ mine[:, :, None])[..., 0]
        near = torch.cat([own[..., None], embedding(history, points @ others.T)], dim=2)
        both = space.affinity(near, ages, there, sums.norm(dim=1) / (histories.sizes[users] - 1))
        positive, negative = both[:, 0], both[:, 1:]
    else:
        mean = normalize(sums, dim=1)
        positive, negative = (mean * mine).sum(dim=1), mean @ others.T
    if loss == "cml":
        hinge = metric_space.cml(positive, negative, allowed, settings.margin, len(pairs.known))
        return hinge + settings.covariance * metric_space.covariance(mine)
    if loss == "softmax":
        return metric_space.softmax(positive, negative, allowed, settings.temperature, log_q)
    return metric_space.bpr(positive, negative, allowed, settings.temperature)


def negatives(
    pairs: Pairs, positives: NDArray[np.int64], settings: Training, place: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """(movies,) to compare the pairs of a step with, and log of how often each is drawn: a function of (seed, step)."""
    none = torch.zeros(())
    if settings.negatives is Negatives.all:
        return torch.from_numpy(pairs.known), none
    if settings.negatives is Negatives.batch:
        share = pairs.counts[positives] / pairs.counts.sum()
        return torch.from_numpy(positives), torch.from_numpy(np.log(share).astype(np.float32))
    draw = np.random.default_rng(place)
    weights = None
    if settings.negatives is Negatives.popular:
        weights = pairs.counts[pairs.known] ** 0.75
        weights = weights / weights.sum()
    drawn = draw.choice(pairs.known, size=settings.count, p=weights)
    return torch.from_numpy(drawn), none
