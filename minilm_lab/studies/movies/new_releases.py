"""evaluator=new_releases: does an encoder's vector of a plot say who will watch a movie that is not out yet?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import pandas as pd

from minilm_lab.errors import LabError, nearest
from minilm_lab.evaluation.base import Evaluator
from minilm_lab.evaluation.result import Result
from minilm_lab.models.encoder import Encoder
from minilm_lab.studies.movies import audience, calibration, catalogue, methods, pictures, purchase, scene
from minilm_lab.studies.movies.catalogue import Place
from minilm_lab.studies.movies.judging import Judged
from minilm_lab.studies.movies.training import Training
from minilm_lab.studies.movies.vectors import vectors
from minilm_lab.studies.recommendation import ranking, splits

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Way(StrEnum):
    """How histories and what is judged are told apart."""

    released = "released"
    """Movies from `released_after` on are judged, by histories of older ones."""
    rolling = "rolling"
    """At each of `dates`: what happened before it is known, movies of the `months` after it are judged."""
    in_matrix = "in_matrix"
    """The last `share` of each user's interactions. Old movies; what others do later is known."""


@dataclass
class NewReleases(Evaluator):
    """Movies from a date on, ranked in full for users by their history of older ones; a rating counts as a visit.

    Baselines that know no encoder are measured on the same split: an encoder that does not beat them is no help. Whatever
    is trained or chosen is so on older releases alone.
    """

    path: str = "grouplens/movielens-latest-small"
    """`movielens_100k` or `movielens_100k_plots` out of packages; or a folder, absolute or in `paths.hub`, with movies.parquet
    (movie_id, plot, genres, release_date) and ratings.parquet (user_id, movie_id, timestamp in seconds)."""
    interactions: Optional[str] = None
    """Data of your own in place of `path`: a parquet or CSV file, or a folder of such shards, with a row an interaction."""
    items: Optional[str] = None
    """The table of its items, with text and date."""
    columns: dict[str, str] = field(default_factory=dict)
    """What the columns of the two are called: user, item, time, event; id, text, date, title, genres."""
    events: list[str] = field(default_factory=list)
    """Of a column of events, those that count, such as [purchase]; empty = every row counts."""
    method: str = "centred_cosine"
    """The scorer that `auc`, `ndcg`, `recall` and `mrr` are of."""
    beside: list[str] = field(default_factory=lambda: ["knn", "tf_idf_knn", "genre_popularity"])
    """Other scorers on the same split; their scores have their name in front."""
    split: Way = Way.released
    """released | rolling | in_matrix."""
    released_after: str = "2010-01-01"
    """The first day of the movies that are ranked; older ones are the histories."""
    released_before: Optional[str] = None
    """Leave out movies from this day on, to choose settings without a look at them; null = none."""
    dates: list[str] = field(default_factory=list)
    """Of rolling: the days at which is ranked what comes out in the `months` after."""
    months: int = 12
    """Of rolling: how long after each of `dates` a movie is new."""
    history: int = 5
    """Of rolling: interactions before a date that a user must have."""
    share: float = 0.2
    """Of in_matrix: how much of each user's history is judged."""
    chosen_by: str = "auc"
    """Metric on the validation split (older releases) by which a trained scorer's settings are chosen: auc | ndcg."""
    k: int = 5
    """How many movies of a history vote in k-NN."""
    length: int = 128
    """Tokens of a plot; longer ones are cut."""
    batch_size: int = 128
    """Texts a forward pass."""
    seed: int = 0
    """Of trained scorers: their start and their negatives."""
    training: Training = field(default_factory=Training)
    """Of `cml`, `softmax` and `text_bpr`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("k", "length", "batch_size", "months", "history"):
            if getattr(self, name) < 1:
                raise LabError(f"evaluator.{name}={getattr(self, name)} must be at least 1.")
        for name, day in (
            ("released_after", self.released_after),
            ("released_before", self.released_before),
            *(("dates", day) for day in self.dates),
        ):
            if day is not None:
                try:
                    pd.Timestamp(day)
                except ValueError:
                    raise LabError(f"evaluator.{name}={day} is no date; write 2010-01-01.") from None
        if not 0 < self.share < 1:
            raise LabError(f"evaluator.share={self.share} must lie between 0 and 1.")
        if self.chosen_by not in ranking.METRICS:
            raise LabError(f"evaluator.chosen_by={self.chosen_by}: choose {' or '.join(ranking.METRICS)}.")
        if self.split is Way.rolling and not self.dates:
            raise LabError(
                "evaluator.split=rolling needs evaluator.dates, such as [2005-01-01,2006-01-01]: the days at which "
                "is ranked what comes out after them."
            )
        self.beside = [name for name in self.beside if name != self.method]
        for key, name in (("method", self.method), *(("beside", name) for name in self.beside)):
            self._check_method(key, name)
        self._checksums: list[str] = []
        self._cache: Path | None = None
        self._opened: tuple[Encoder, str] | None = None

    def _check_method(self, key: str, name: str) -> None:
        if name not in methods.NAMES:
            raise LabError(
                f"evaluator.{key}={name}: no such scorer.{nearest(name, methods.NAMES)} There are: "
                f"{', '.join(methods.NAMES)}."
            )
        if self.split is not Way.in_matrix and name in methods.METHODS and methods.METHODS[name].warm:
            raise LabError(
                f"evaluator.{key}={name} knows movies by who saw them, and nobody saw a new one: take "
                "evaluator.split=in_matrix, or another scorer."
            )

    @property
    def primary(self) -> str:
        """Mean over users of the AUC of `method`."""
        return "auc"

    def identity(self) -> dict[str, Any]:
        """See `Evaluator.identity`; the data by its content."""
        return {
            **super().identity(),
            "path": None,
            "interactions": None,
            "items": None,
            "data": self._checksums,
        }

    def prepare(self, hub: str | None, cache: Path) -> None:
        """Read and split the tables."""
        self.read(hub, cache)
        self._scenes = list(self._split_up())

    def read(self, hub: str | None, cache: Path) -> None:
        """Read the tables; `recommend` needs no split of them."""
        self._cache = cache
        self._catalogue = catalogue.read(
            Place(self.path, self.interactions, self.items, dict(self.columns), list(self.events)),
            hub,
            cache,
            self.released_before,
            dated=self.split is not Way.in_matrix,
        )
        self._checksums = self._catalogue.checksums

    def check_question(self, question: audience.Question) -> None:
        """LabError for an empty text, or a genre that no movie has; after `read`."""
        audience.text_of(self._catalogue, question)

    def recommend(self, model: Encoder, question: audience.Question, top: int) -> audience.Audience:
        """Who would come to a film that is only a text yet; after `read`. Interactions of all dates are known."""
        known = self._catalogue
        encoded = audience.vectors_with(known, self._encoded(model), model, question.text.strip())
        return audience.expect(
            known,
            encoded,
            question,
            method=self.method,
            by=self.chosen_by,
            top=top,
            k=self.k,
            seed=self.seed,
            training=self.training,
        )

    def _encoded(self, model: Encoder) -> np.ndarray:
        folder = self._opened[1] if self._opened is not None and self._opened[0] is model else None
        return vectors(model, self._catalogue.texts, folder, self._cache)

    def _split_up(self) -> Sequence[scene.Scene]:
        data = self._catalogue.data
        if self.split is Way.in_matrix:
            split = splits.in_matrix(data, self.share)
            return [scene.warm_scene(split, self._view(split))]
        if self.split is Way.rolling:
            made = []
            for day in self.dates:
                split = splits.rolling(data, day, months=self.months, history=self.history)
                made.append(scene.released_scene(data, split, day, f"date={day}", self._view(split)))
            return made
        split = splits.released_after(data, self.released_after)
        name = f"released_after={self.released_after}"
        return [scene.released_scene(data, split, self.released_after, name, self._view(split))]

    def _view(self, split: splits.Split) -> scene.View:
        known = self._catalogue
        ages = scene.ages(known.data, split.train)
        return scene.View(
            split.train, ages, known.texts, known.genres, None, self.k, self.seed, self.training
        )

    def wrap(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Encoder:
        """See `Evaluator.wrap`: the mean of the tokens' vectors."""
        return Encoder(model, tokenizer, length=self.length, batch_size=self.batch_size)

    def open(self, where: str, revision: str | None) -> Encoder:
        """See `Evaluator.open`."""
        encoder = Encoder.load(where, revision, length=self.length, batch_size=self.batch_size)
        self._opened = (encoder, where)
        return encoder

    def __call__(self, model: Encoder) -> Result:
        """Scores: auc, ndcg, recall, mrr of `method`, each with _low, _high, those of `beside` with their name in front,
        and of the probability of coming those of `calibration.judged`. Facts: the paired differences, what was chosen by
        what, the reliability curve, tiers of customers, and what was left out. Files: pictures."""
        names = [self.method, *self.beside]
        scenes = self._seen(model, names)
        scored = {name: [methods.scored(name, each, self.chosen_by) for each in scenes] for name in names}
        judged = {
            name: Judged.over([self._ranked(s.scores, e) for s, e in zip(each, scenes, strict=True)])
            for name, each in scored.items()
        }
        ours = judged[self.method]
        scores = ours.scores()
        for name in self.beside:
            scores |= judged[name].scores(f"{name}_")
        odds = [
            purchase.chances(s.scores, s.validation, each)
            for s, each in zip(scored[self.method], scenes, strict=True)
        ]
        more, how_true = calibration.judged(odds, scenes)
        ids = self._catalogue.data.users
        rows = [
            {"user": _plain(ids[int(user)]), **{metric: float(line[metric]) for metric in ranking.METRICS}}
            for user, line in ours.users.iterrows()
        ]
        facts = self._facts(scored, judged, scenes) | {"purchase": how_true}
        return Result(scores | more, rows, self._files(judged, scenes, how_true, facts), facts)

    def _files(
        self,
        judged: dict[str, Judged],
        scenes: Sequence[scene.Scene],
        how_true: dict[str, Any],
        facts: dict[str, Any],
    ) -> dict[str, str]:
        """Pictures; the gain by tier goes into the facts too."""
        last = scenes[-1].view
        tier = calibration.tier_of(last.train.sum(axis=1))
        others = {name: judged[name] for name in self.beside if name != methods.ORACLE}
        gains = pictures.by_tier(judged[self.method], others, tier, calibration.TIERS)
        facts["auc_less_by_tier"] = gains
        files = {"calibration.svg": pictures.calibration(how_true["curve"], self.method).svg()}
        if gains and all(len(each) == len(calibration.TIERS) for each in gains.values()):
            few = dict(list(gains.items())[:4])
            files["tiers.svg"] = pictures.tiers(few, self.method).svg()
        if last.encoded is not None:
            test = scenes[-1].split.test
            sizes = np.where((last.train.sum(axis=1) <= 40) & test.any(axis=1), test.sum(axis=1), -1)
            user = int(sizes.argmax())  # of those whose way can still be seen, who saw most that is new
            way = np.argsort(last.age[user], kind="stable")[-int(last.train[user].sum()) :]
            seen = np.flatnonzero(test[user])
            files["space.svg"] = pictures.space(last.centred, way, seen, self._catalogue.titles).svg()
        return files

    def _seen(self, model: Encoder, names: Sequence[str]) -> list[scene.Scene]:
        """The scenes with the encoder's vectors, where a method reads them."""
        if not any(name in methods.METHODS and methods.METHODS[name].reads_vectors for name in names):
            return self._scenes
        encoded = self._encoded(model)
        return [
            replace(
                each, view=replace(each.view, encoded=encoded), inner=replace(each.inner, encoded=encoded)
            )
            for each in self._scenes
        ]

    @staticmethod
    def _ranked(scores: np.ndarray, each: scene.Scene) -> ranking.Ranking:
        return ranking.rank(scores, each.split.test, each.split.candidates)

    def _facts(
        self,
        scored: dict[str, list[methods.Scored]],
        judged: dict[str, Judged],
        scenes: Sequence[scene.Scene],
    ) -> dict[str, Any]:
        ours = judged[self.method]
        positive = [int(each.split.test.any(axis=1).sum()) for each in scenes]
        chosen = {
            name: [{"split": e.name, **s.chosen, "tried": s.tried} for s, e in zip(each, scenes, strict=True)]
            for name, each in scored.items()
            if any(s.tried for s in each)
        }
        return {
            "movies": len(self._catalogue.texts),
            "candidates": sum(int(each.split.candidates.any(axis=0).sum()) for each in scenes),
            "users": len(ours.users),
            "users_judged_on_a_split": ours.pairs,
            "users_without_positive": len(self._catalogue.data.users) * len(scenes) - sum(positive),
            "positives": sum(int(each.split.test.sum()) for each in scenes),
            "coverage": ours.coverage,
            "less": {name: ours.less(judged[name]) for name in self.beside},
            "chosen": chosen,
            **self._catalogue.left_out,
        }


def _plain(identity: object) -> int | str:
    return int(identity) if isinstance(identity, (int, np.integer)) else str(identity)
