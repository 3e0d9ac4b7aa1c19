"""What a scorer may look at, and the older releases on which every choice is made."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from minilm_lab.errors import LabError
from minilm_lab.studies.movies import scorers
from minilm_lab.studies.movies.training import Training
from minilm_lab.studies.recommendation.splits import Interactions, Matrix, Split

Floats = NDArray[np.float64]
NEWEST = 0.2
"""Share of the movies trained on, the newest, that become the cold validation split; of a user's history, in-matrix."""


@dataclass(frozen=True)
class View:
    """Everything a scorer may know: nothing here depends on a test interaction."""

    train: Matrix
    """(users, items) the histories."""
    age: Floats
    """(users, items) place in the user's history by time, from 1/n (oldest) to 1 (newest); 0 where there is none."""
    texts: list[str]
    genres: Matrix
    """(items, genres)."""
    encoded: Floats | None
    """(items, width) an encoder's vectors; None where the scorer said that it reads none."""
    k: int
    """Movies of a history that vote in k-NN."""
    seed: int
    training: Training = field(default_factory=Training)
    """Of metric learning."""

    @cached_property
    def known(self) -> Matrix:
        """(items,) whether anybody in training had it."""
        had: Matrix = np.asarray(self.train.any(axis=0))
        return had

    @property
    def vectors(self) -> Floats:
        """The encoder's vectors; RuntimeError where a scorer reads them without having said so."""
        if self.encoded is None:
            raise RuntimeError("this scorer did not say that it reads vectors")
        return self.encoded

    @cached_property
    def centred(self) -> Floats:
        """(items, width) of norm 1, without what all movies trained on have in common."""
        return scorers.unit(self.vectors - self.vectors[self.known].mean(axis=0))

    @cached_property
    def words(self) -> sparse.csr_matrix:
        """(items, words) TF-IDF of norm 1."""
        return scorers.tf_idf(self.texts, self.train)


@dataclass(frozen=True)
class Scene:
    """A split to be judged, and inside of its training part another one to choose by."""

    name: str
    split: Split
    view: View
    inner_split: Split
    inner: View


def released_scene(data: Interactions, split: Split, start: str, name: str, view: View) -> Scene:
    """The newest fifth of the movies released before `start` is the cold validation split.

    LabError where nobody can be judged by it.
    """
    dates = data.items["date"].to_numpy("datetime64[ns]")
    first = np.datetime64(pd.Timestamp(start))
    older = np.sort(dates[view.known & (dates < first)])
    cut = older[int((1 - NEWEST) * len(older))]
    new = (dates >= cut) & (dates < first)
    train, test = split.train & ~new, split.train & new
    test = test & train.any(axis=1)[:, None]
    if not test.any() or new.sum() < 2:
        raise LabError(
            f"{name}: of the movies before it nothing is left to choose settings by (the newest fifth, from "
            f"{str(cut)[:10]} on, has no user with an older history); choose a later date."
        )
    inner = Split(train, test, np.broadcast_to(new, train.shape))
    return Scene(name, split, view, inner, _within(view, train))


def warm_scene(split: Split, view: View) -> Scene:
    """The last fifth of each user's history in training, at least one, is the validation split."""
    count = view.train.sum(axis=1)
    last = view.train & (view.age > 1 - np.maximum(NEWEST, 1 / np.maximum(count, 1))[:, None] + 1e-9)
    last &= (count > 1)[:, None]
    train = view.train & ~last
    return Scene("in_matrix", split, view, Split(train, last, ~train), _within(view, train))


def ages(data: Interactions, train: Matrix) -> Floats:
    """`View.age` of the interactions in `train`."""
    rows = data.rows[train[data.rows["user"], data.rows["item"]]]
    groups = rows.groupby("user")["item"]  # the rows are in order of time
    age = np.zeros(train.shape)
    age[rows["user"], rows["item"]] = (groups.cumcount() + 1) / groups.transform("size")
    return age


def _within(view: View, train: Matrix) -> View:
    """The view of someone who knows `train`, a part of the history, alone."""
    left = view.age * train
    order = np.argsort(np.argsort(-left, axis=1, kind="stable"), axis=1, kind="stable")
    count = train.sum(axis=1, keepdims=True)
    return replace(view, train=train, age=np.where(train, (count - order) / np.maximum(count, 1), 0.0))
