"""evaluator=new_releases: does an encoder's vector of a plot say who will watch a movie that is not out yet?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import pandas as pd

from minilm_lab.errors import LabError
from minilm_lab.evaluation.base import Evaluator
from minilm_lab.evaluation.result import Result
from minilm_lab.models.encoder import Encoder
from minilm_lab.studies.movies import catalogue, scorers
from minilm_lab.studies.recommendation import ranking, splits

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class NewReleases(Evaluator):
    """Movies from a date on, ranked in full for users by their history of older ones; a rating counts as a visit.

    Nothing is trained. The baselines that know no encoder are measured on the same split: an encoder that does not beat
    them is no help.
    """

    path: str = "grouplens/movielens-latest-small"
    """`movielens_100k` or `movielens_100k_plots` out of packages; or a folder, absolute or in `paths.hub`, with movies.parquet
    (movie_id, plot, genres, release_date) and ratings.parquet (user_id, movie_id, timestamp in seconds)."""
    released_after: str = "2010-01-01"
    """The first day of the movies that are ranked; older ones are the histories."""
    released_before: Optional[str] = None
    """Leave out movies from this day on, to choose settings without a look at them; null = none."""
    k: int = 5
    """How many movies of a history vote in k-NN."""
    length: int = 128
    """Tokens of a plot; longer ones are cut."""
    batch_size: int = 128
    """Texts a forward pass."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("k", "length", "batch_size"):
            if getattr(self, name) < 1:
                raise LabError(f"evaluator.{name}={getattr(self, name)} must be at least 1.")
        for name in ("released_after", "released_before"):
            if (day := getattr(self, name)) is not None:
                try:
                    pd.Timestamp(day)
                except ValueError:
                    raise LabError(f"evaluator.{name}={day} is no date; write 2010-01-01.") from None
        self._checksums: list[str] = []

    @property
    def primary(self) -> str:
        """Mean over users of the AUC of the centred cosine."""
        return "auc"

    def identity(self) -> dict[str, Any]:
        """See `Evaluator.identity`; the data by its content."""
        return {**super().identity(), "path": None, "data": self._checksums}

    def prepare(self, hub: str | None, cache: Path) -> None:
        """Read and split the tables."""
        self._catalogue = catalogue.read(self.path, hub, cache, self.released_before)
        self._checksums = self._catalogue.checksums
        self._split = splits.released_after(self._catalogue.data, self.released_after)

    def wrap(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Encoder:
        """See `Evaluator.wrap`: the mean of the tokens' vectors."""
        return Encoder(model, tokenizer, length=self.length, batch_size=self.batch_size)

    def open(self, where: str, revision: str | None) -> Encoder:
        """See `Evaluator.open`."""
        return Encoder.load(where, revision, length=self.length, batch_size=self.batch_size)

    def __call__(self, model: Encoder) -> Result:
        """Scores: centred cosine (auc, ndcg, recall, mrr, each with _low, _high), knn_*, and baselines' auc and ndcg."""
        train, test, candidates = self._split.train, self._split.test, self._split.candidates
        texts = self._catalogue.texts
        vectors = model(texts).numpy().astype(np.float64)
        words = scorers.tf_idf(texts, train)
        centred = vectors - vectors[train.any(axis=0)].mean(axis=0)
        ours = {
            "": scorers.centred_cosine(vectors, train),
            "knn_": scorers.neighbours(centred, train, self.k),
            "tf_idf_knn_": scorers.neighbours(words, train, self.k),
            "genre_popularity_": scorers.genre_popularity(self._catalogue.genres, train),
        }
        scores: dict[str, float] = {}
        judged = {name: ranking.rank(values, test, candidates) for name, values in ours.items()}
        for name, of_scorer in judged.items():
            scores |= {f"{name}{metric}": value for metric, value in ranking.summary(of_scorer).items()}
        cosine = judged[""]
        rows = [
            {"user": int(user), **{metric: float(getattr(cosine, metric)[row]) for metric in ranking.METRICS}}
            for row, user in enumerate(cosine.users)
        ]
        facts = {
            "movies": len(texts),
            "candidates": int(candidates.any(axis=0).sum()),
            "users": len(cosine.users),
            "users_without_positive": cosine.without_positive,
            "positives": int(test.sum()),
            "coverage": cosine.coverage,
            **self._catalogue.left_out,
        }
        return Result(scores, rows, facts=facts)
