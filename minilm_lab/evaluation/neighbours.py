"""How often the k nearest training texts, by the cosine of their embeddings, vote for the right class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from minilm_lab.data import holdout
from minilm_lab.data.splits import texts
from minilm_lab.errors import LabError
from minilm_lab.evaluation.on_task import OfEncoder
from minilm_lab.evaluation.result import Result

if TYPE_CHECKING:
    from datasets import Dataset

    from minilm_lab.models.encoder import Encoder


@dataclass
class Neighbours(OfEncoder):
    """Accuracy of k nearest neighbours on a classification; a pair is embedded as one text, as the model reads it."""

    k: int = 10
    """How many neighbours vote; of classes with equally many votes the first wins."""
    train_examples: int = 1000
    """Training texts to choose neighbours from (the first by a hash of their text); all, where there are fewer."""
    dev_examples: int = 500
    """Dev texts to classify, likewise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("k", "train_examples", "dev_examples"):
            if getattr(self, name) < 1:
                raise LabError(f"evaluator.{name}={getattr(self, name)} must be at least 1.")
        if self._task.kind != "classification":
            raise LabError(
                f"evaluator.task={self._task.name}: neighbours vote for classes; give a classification."
            )

    @property
    def primary(self) -> str:
        """See `Evaluator.primary`."""
        return f"{self._task.name}_knn_accuracy"

    def prepare(self, hub: str | None, cache: Path) -> None:
        """Read as many examples of the task as are used; LabError when they are fewer than `k`."""
        super().prepare(hub, cache)
        train = first(self.splits.train, self.train_examples)
        if self.k > len(train):
            raise LabError(f"evaluator.k={self.k} is more than the {len(train)} training texts.")
        dev = first(self.splits.dev, self.dev_examples)
        self._splits = replace(self.splits, train=train, dev=dev, extra={})

    def __call__(self, model: Encoder) -> Result:
        """{"<task>_knn_accuracy": …}, and the class of each dev text."""
        from sklearn.neighbors import KNeighborsClassifier

        train, dev = self.splits.train, self.splits.dev
        vectors = model([*texts(train), *texts(dev)]).numpy()
        voters = KNeighborsClassifier(self.k, metric="cosine", algorithm="brute")
        voters.fit(vectors[: len(train)], train["label"][:])
        classes = [int(number) for number in voters.predict(vectors[len(train) :])]
        rows = [
            {"id": i, "prediction": prediction, "reference": reference}
            for i, prediction, reference in zip(dev["id"][:], classes, dev["label"][:], strict=True)
        ]
        right = sum(row["prediction"] == row["reference"] for row in rows) / len(rows)
        return Result({self.primary: 100.0 * right}, rows)


def first(split: Dataset, count: int) -> Dataset:
    """The first `count` rows by a hash of their text; all, where there are fewer."""
    return holdout.first(split, min(count, len(split)), "evaluator.train_examples")
