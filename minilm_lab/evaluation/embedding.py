"""An offline benchmark of sentence encoders: what their vectors know of several data sets, by scikit-learn alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilm_lab import config
from minilm_lab.data.splits import references
from minilm_lab.errors import LabError
from minilm_lab.evaluation.neighbours import first
from minilm_lab.evaluation.on_task import EncoderSettings, task_of
from minilm_lab.evaluation.result import Result
from minilm_lab.paths import is_there

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

    from minilm_lab.data.splits import Splits
    from minilm_lab.models.encoder import Encoder


log = logging.getLogger(__name__)


@dataclass
class Embedding(EncoderSettings):
    """Each task gives the scores that its data allow, × 100; `average` is the mean of the tasks' means.

    Single texts with classes: accuracy of k nearest neighbours and of logistic regression on the train split, V-measure
    (Rosenberg and Hirschberg, 2007) of k-means on the dev split. Pairs with ratings: Spearman correlation of cosine and
    rating. Pairs with two classes, of which the second means "the same" (MRPC, QQP, PAWS-X): average precision of the
    cosine, and retrieval, the mean reciprocal rank of a text's paraphrase among all second texts of the split.
    """

    tasks: dict[str, Any] = field(default_factory=dict)
    """Name -> task, as a file of conf/task gives it, `_target_` included."""
    k: int = 10
    """How many neighbours vote."""
    train_examples: int = 1000
    """Training texts of a task (the first by a hash of their text); all, where there are fewer."""
    dev_examples: int = 1000
    """Dev texts or pairs of a task, likewise."""
    seed: int = 0
    """Of k-means."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("k", "train_examples", "dev_examples"):
            if getattr(self, name) < 1:
                raise LabError(f"evaluator.{name}={getattr(self, name)} must be at least 1.")
        if not self.tasks:
            raise LabError("evaluator.tasks is empty; write +task@evaluator.tasks.sst2=sst2.")
        self._tasks = {name: task_of(task, f"evaluator.tasks.{name}") for name, task in self.tasks.items()}
        for name, task in self._tasks.items():
            if task.kind not in ("classification", "regression"):
                raise LabError(
                    f"evaluator.tasks.{name} is of kind {task.kind}; give a classification or rated pairs."
                )
        self._data: dict[str, Splits] = {}

    @property
    def primary(self) -> str:
        """See `Evaluator.primary`."""
        return "average"

    def identity(self) -> dict[str, Any]:
        """See `Evaluator.identity`; of each task what it computes, and the fingerprint of its data."""
        tasks = {
            name: {**self._tasks[name].identity(), "fingerprint": splits.checksum()}
            for name, splits in self._data.items()
        }
        plain = {key: value for key, value in config.plain(self).items() if key != "every"}
        return {**plain, "tasks": tasks}

    def prepare(self, hub: str | None, cache: Path) -> None:
        """Read the data of all tasks. Without `hub`, those that cannot be had are left out, which is said.

        LabError when one cannot be measured, or none is left.
        """
        self._data = {}
        for name, task in self._tasks.items():
            try:
                self._data[name] = task.load(hub, cache)
            except LabError as error:
                place = getattr(task, "path", None)  # of a data set of the hub its id
                if hub is not None or place is None or is_there(Path(place)):
                    raise
                log.warning("evaluator=embedding leaves out %s, which is not here: %s", name, error)
        if not self._data:
            raise LabError("evaluator=embedding: none of its tasks' data is here; give paths.hub=<folder>.")
        for name, splits in self._data.items():
            pairs, task = "pair" in splits.dev.column_names, self._tasks[name]
            labels = set(references(splits.dev))
            if task.kind == "regression" and not pairs:
                raise LabError(f"evaluator.tasks.{name} rates single texts; give pairs, such as stsb.")
            if pairs and task.kind == "classification" and labels != {0, 1}:
                raise LabError(
                    f"evaluator.tasks.{name}: pairs with classes {sorted(labels)}; give two classes, such as mrpc."
                )
            if len(labels) < 2:
                raise LabError(f"evaluator.tasks.{name}: all labels of its dev split are equal.")
            if not pairs and self.k > len(splits.train):
                raise LabError(f"evaluator.k={self.k} is more than the training texts of {name}.")

    def __call__(self, model: Encoder) -> Result:
        """{"average": …, "<task>_<measure>": …}."""
        scores: dict[str, float] = {}
        means = []
        for name, splits in self._data.items():
            dev = first(splits.dev, self.dev_examples)
            if "pair" in dev.column_names:
                measured = dict(_pairs(model, dev, self._tasks[name].kind))
            else:
                measured = dict(self._classes(model, first(splits.train, self.train_examples), dev))
            means.append(sum(measured.values()) / len(measured))
            scores |= {f"{name}_{measure}": 100.0 * value for measure, value in measured.items()}
        left_out = [name for name in self._tasks if name not in self._data]
        facts = {"left_out": left_out} if left_out else {}
        return Result({"average": 100.0 * sum(means) / len(means), **scores}, facts=facts)

    def _classes(self, model: Encoder, train: Dataset, dev: Dataset) -> Iterator[tuple[str, float]]:
        from sklearn.cluster import KMeans
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import v_measure_score
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.preprocessing import normalize

        known, asked = (normalize(model(split["text"][:]).numpy()) for split in (train, dev))
        labels, right = train["label"][:], dev["label"][:]
        voters = KNeighborsClassifier(self.k, metric="cosine", algorithm="brute").fit(known, labels)
        yield "knn", float(voters.score(asked, right))
        yield "linear", float(LogisticRegression(max_iter=1000).fit(known, labels).score(asked, right))
        clusters = KMeans(len(set(right)), n_init=4, random_state=self.seed).fit_predict(asked)
        yield "clustering", float(v_measure_score(right, clusters))


def _pairs(model: Encoder, dev: Dataset, kind: str) -> Iterator[tuple[str, float]]:
    import numpy as np
    from scipy.stats import spearmanr
    from sklearn.metrics import average_precision_score
    from sklearn.preprocessing import normalize

    left, right = (normalize(model(dev[column][:]).numpy()) for column in ("text", "pair"))
    cosines, labels = (left * right).sum(1), np.asarray(references(dev), float)
    if kind == "regression":
        constant = bool((cosines == cosines[0]).all())
        yield "similarity", 0.0 if constant else float(spearmanr(cosines, labels).statistic)
        return
    yield "paraphrase", float(average_precision_score(labels, cosines))
    same = labels == 1
    yield "retrieval", reciprocal_rank(left[same] @ right.T, cosines[same])


def reciprocal_rank(against_all: np.ndarray, right: np.ndarray) -> float:
    """Mean of 1 / rank of the right text.

    Args:
        against_all: cosine with every text, (queries, texts).
        right: cosine with the right one, (queries,); a text as near as it, itself aside, does not stand before it.
    """
    ranks = 1 + (against_all > right[:, None] + 1e-6).sum(1)
    return float((1.0 / ranks).mean())
