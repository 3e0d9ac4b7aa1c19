"""How often the k nearest training texts, by the cosine of their embeddings, vote for the right class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minilm_lab.data.splits import Splits, texts
from minilm_lab.errors import LabError
from minilm_lab.models.encoder import Encoder
from minilm_lab.probes.base import TaskProbe
from minilm_lab.tasks import holdout

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass
class NeighboursProbe(TaskProbe):
    """Accuracy of k nearest neighbours on a classification; a pair is embedded as one text, as the model reads it."""

    #: How many neighbours vote; of classes with equally many votes the first wins.
    k: int = 10
    #: Training texts to choose neighbours from (the first by a hash of their text); all, where there are fewer.
    train_examples: int = 1000
    #: Dev texts to classify, likewise.
    dev_examples: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("k", "train_examples", "dev_examples"):
            if getattr(self, name) < 1:
                raise LabError(f"probe.{name}={getattr(self, name)} must be at least 1.")
        if self._task.kind != "classification":
            raise LabError(
                f"probe.task={self._task.name}: neighbours vote for classes; give a classification."
            )

    def load(self, hub: str | None, cache: Path) -> Splits:
        """As many examples of the task as are used; LabError when they are fewer than `k`."""
        splits = super().load(hub, cache)
        train = _first(splits.train, self.train_examples)
        if self.k > len(train):
            raise LabError(f"probe.k={self.k} is more than the {len(train)} training texts.")
        return replace(splits, train=train, dev=_first(splits.dev, self.dev_examples), extra={})

    def measure(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, splits: Splits
    ) -> dict[str, float]:
        """{"<task>_knn_accuracy": …}."""
        both = [*texts(splits.train), *texts(splits.dev)]
        encoder = Encoder(model, tokenizer, length=self.length, batch_size=self.batch_size, layer=self.layer)
        rows = encoder(both).numpy()
        known, asked = rows[: len(splits.train)], rows[len(splits.train) :]
        voters = KNeighborsClassifier(self.k, metric="cosine", algorithm="brute")
        guessed = voters.fit(known, splits.train["label"][:]).predict(asked)
        right = float(np.mean(guessed == np.asarray(splits.dev["label"][:])))
        return {f"{self._task.name}_knn_accuracy": 100.0 * right}


def _first(examples: Dataset, count: int) -> Dataset:
    return holdout.first(examples, min(count, len(examples)), "probe.train_examples")
