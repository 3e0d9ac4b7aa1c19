"""Who would come to a film that is only a text yet."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from minilm_lab.errors import LabError, nearest
from minilm_lab.models.encoder import Encoder
from minilm_lab.studies.movies import calibration, catalogue, methods, purchase, scene, scorers
from minilm_lab.studies.movies.training import Training
from minilm_lab.studies.recommendation.splits import Split


@dataclass(frozen=True)
class Guest:
    """Somebody who would come."""

    user: object
    probability: float
    tier: str
    because: list[str]
    """Titles of their history that are nearest to the text."""


@dataclass(frozen=True)
class Audience:
    """Answer for one text."""

    guests: list[Guest]
    """The most probable first."""
    users: int
    """All users that were asked about."""
    expected: float
    """How many of them are expected to come."""
    by_tier: dict[str, float]
    """The same of each third of the users by the length of their history."""
    like: list[str]
    """Titles of the movies nearest to the text."""


@dataclass(frozen=True)
class Question:
    """A film that is not out yet."""

    text: str
    genres: list[str]
    """Names of the catalogue's; methods that know genres read them."""


def expect(
    known: catalogue.Catalogue,
    encoded: NDArray[np.float64],
    question: Question,
    *,
    method: str,
    by: str,
    top: int,
    k: int,
    seed: int,
    training: Training,
) -> Audience:
    """Ask about everybody with a history; all of it is known, settings and probabilities are fitted on the newest fifth.

    encoded: (items + 1, width), the text's last. LabError for an empty text, a genre that no movie has, a method that knows
    movies by who saw them.
    """
    view, data = _extended(known, encoded, question, k, seed, training)
    if method == methods.ORACLE or methods.METHODS[method].warm:
        raise LabError(f"evaluator.method={method} has nothing to say of a text that nobody saw.")
    last = np.zeros(view.train.shape[1], dtype=bool)
    last[-1] = True
    split = Split(view.train, np.zeros_like(view.train), np.broadcast_to(last, view.train.shape))
    start = str(data["date"].iloc[-1].date())
    asked = scene.released_scene(replace(known.data, items=data), split, start, "the text", view)
    scored = methods.scored(method, asked, by)
    chance = purchase.chances(scored.scores, scored.validation, asked).probability[:, -1]
    users = np.flatnonzero(view.train.any(axis=1))
    tier = calibration.tier_of(view.train.sum(axis=1))
    similar = scorers.unit(view.centred) @ scorers.unit(view.centred)[-1]
    order = users[np.argsort(-chance[users], kind="stable")][:top]
    return Audience(
        [
            Guest(
                known.data.users[user],
                float(chance[user]),
                calibration.TIERS[tier[user]],
                _titles(known, similar[:-1], np.flatnonzero(view.train[user])),
            )
            for user in order
        ],
        len(users),
        float(chance[users].sum()),
        {name: float(chance[tier == number].sum()) for number, name in enumerate(calibration.TIERS)},
        _titles(known, similar[:-1], np.arange(len(known.titles)), 5),
    )


def text_of(known: catalogue.Catalogue, question: Question) -> str:
    """The text as it is encoded; LabError for none, or a genre that no movie has."""
    if not question.text.strip():
        raise LabError("text= is empty: say what the film is about.")
    for genre in question.genres:
        if genre not in known.genre_names:
            raise LabError(
                f"genres: no movie is {genre!r}.{nearest(genre, known.genre_names)} There are: "
                f"{', '.join(known.genre_names) or 'none in this catalogue'}."
            )
    return question.text.strip()


def vectors_with(
    known: catalogue.Catalogue, encoded: NDArray[np.float64], model: Encoder, text: str
) -> NDArray[np.float64]:
    """(items + 1, width): the catalogue's vectors and the text's."""
    own: NDArray[np.float64] = model([text]).numpy().astype(np.float64)
    return np.concatenate([encoded, own])


def _extended(
    known: catalogue.Catalogue,
    encoded: NDArray[np.float64],
    question: Question,
    k: int,
    seed: int,
    training: Training,
) -> tuple[scene.View, pd.DataFrame]:
    text = text_of(known, question)
    items = known.data.items
    tomorrow = items["date"].max() + pd.Timedelta(days=1)
    more = pd.DataFrame({"id": [None], "text": [text], "date": [tomorrow]}).astype(
        {"date": items["date"].dtype}
    )
    table = pd.concat([items.astype({"id": object}), more.astype({"id": object})], ignore_index=True)
    had = known.data.matrix(known.data.rows)
    train = np.concatenate([had, np.zeros((len(had), 1), dtype=bool)], axis=1)
    kinds = np.asarray([[name in question.genres for name in known.genre_names]], dtype=bool)
    genres = np.concatenate([known.genres, kinds.reshape(1, known.genres.shape[1])])
    ages = scene.ages(known.data, train)
    return scene.View(train, ages, [*known.texts, text], genres, encoded, k, seed, training), table


def _titles(
    known: catalogue.Catalogue, similar: NDArray[np.float64], among: NDArray[np.int64], most: int = 3
) -> list[str]:
    return [known.titles[item] for item in among[np.argsort(-similar[among], kind="stable")][:most]]
