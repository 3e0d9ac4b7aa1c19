"""The embedded task: how positive or negative do people find a sentence?

The source distribution of vaderSentiment carries the sentences of Hutto & Gilbert (ICWSM 2014), each rated by
20 people from −4 (extremely negative) to +4 (extremely positive): movie-review snippets, product-review
snippets, newspaper editorials, and tweets. The tweets serve only as unlabelled text here.

The split is a function of the sentence alone. A sentence's key is its words, lower-cased; a hash of the key
puts it into dev (below ``dev_fraction``) or train, and orders both. So a sentence and its copies (other
spelling of case or punctuation, other position, other file) are always on one side, and every machine has the
same split. Copies are merged, with the mean of their ratings; a rating of exactly 0 has no sign and is dropped.

Most sentences of GLUE's SST-2 come from the same movie reviews (732 of its 872 dev sentences are in here), so
a model fine-tuned on this task, or a corpus with its sentences, has seen the text of SST-2's dev set.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from minilm_lab.data.rated_sentences import DOMAINS, MAX_DEV_FRACTION, Sentence, rated
from minilm_lab.data.splits import Splits, table
from minilm_lab.errors import LabError, nearest
from minilm_lab.tasks.labels import LabelTask

if TYPE_CHECKING:
    from datasets import Dataset

SCALE = 4.0
"""Ratings go from −4 to +4; the model learns them on a scale of −1 to +1."""


@dataclass
class Sentiment(LabelTask):
    """Human-rated sentences out of a package: accuracy of the sign, and correlation with the rating."""

    pinned: ClassVar[bool] = True

    name: str = "sentiment"
    kind: str = "regression"
    """"regression": learn rating / 4; the prediction's sign is the class. "classification": learn the sign; the
    difference of the two logits is the predicted value. Both give every metric."""
    metrics: list[str] = field(default_factory=lambda: ["sign_accuracy", "pearson"])
    score: str = "sign_accuracy"
    domains: list[str] = field(default_factory=lambda: list(DOMAINS))
    """Which sentences: any of "movie", "product", "editorial"."""
    train_examples: int | None = None
    """Train on only this many sentences (the first in the order of their hashes); null = on all."""
    dev_fraction: float = MAX_DEV_FRACTION
    """Share of the sentences that is held out for scores; at most 0.2."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.domains:
            raise LabError(f"task.domains is empty; give some of: {', '.join(DOMAINS)}.")
        for domain in self.domains:
            if domain not in DOMAINS:
                raise LabError(
                    f"task.domains: there is no domain '{domain}'; there are: {', '.join(DOMAINS)}."
                    f"{nearest(domain, DOMAINS)}"
                )
        if self.train_examples is not None and self.train_examples < 1:
            raise LabError(f"task.train_examples={self.train_examples} must be at least 1, or null for all.")
        if not 0 < self.dev_fraction <= MAX_DEV_FRACTION:
            raise LabError(
                f"task.dev_fraction={self.dev_fraction} must be above 0 and at most {MAX_DEV_FRACTION}."
            )

    @property
    def decides(self) -> str:
        """A prediction is always a value: its sign is the class."""
        return "value"

    def load(self, hub: str | None, cache: Path) -> Splits:
        """Read the sentences; `hub` plays no part."""
        sentences = rated([domain for domain in DOMAINS if domain in self.domains], cache)
        sentences = sorted((s for s in sentences if s.rating != 0), key=lambda s: (s.hash, s.key))
        dev = [s for s in sentences if s.hash < self.dev_fraction]
        train = [s for s in sentences if s.hash >= self.dev_fraction]
        note = ""
        if self.train_examples is not None:
            if self.train_examples > len(train):
                raise LabError(
                    f"task.train_examples={self.train_examples} is more than the {len(train)} training sentences "
                    f"of task.domains={self.domains}; give at most {len(train)}, or null for all."
                )
            note = f"subset: train {self.train_examples:,} of {len(train):,}"
            train = train[: self.train_examples]
        labels = ["negative", "positive"] if self.kind == "classification" else None
        return Splits(self._table(train), self._table(dev), labels, note)

    def predictions(self, outputs: np.ndarray) -> np.ndarray:
        """Values (examples,): the regression output, or positive minus negative logit."""
        if self.kind == "classification":
            return np.asarray(outputs[:, 1] - outputs[:, 0])
        return super().predictions(outputs)

    def _table(self, sentences: list[Sentence]) -> Dataset:
        ratings = [s.rating for s in sentences]
        labels: list[int] | list[float]
        if self.kind == "classification":
            labels = [int(rating > 0) for rating in ratings]
        else:
            labels = [rating / SCALE for rating in ratings]
        ids, texts = [s.id for s in sentences], [s.text for s in sentences]
        return table(id=ids, text=texts, label=labels, gold=ratings)
