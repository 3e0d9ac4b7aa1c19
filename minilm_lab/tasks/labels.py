"""One label a text or pair: a class or a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from minilm_lab.data.splits import Splits, is_labelled, references
from minilm_lab.errors import LabError
from minilm_lab.evaluation.result import Result
from minilm_lab.tasks import metrics
from minilm_lab.tasks.base import Backbone, Task

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from minilm_lab.data.loading import Samples
    from minilm_lab.tasks.features import Features
    from minilm_lab.tasks.module import TaskModule


@dataclass
class LabelTask(Task):
    """Classification or regression of texts or pairs, wherever they come from."""

    kinds: ClassVar[tuple[str, ...]] = ("classification", "regression")

    kind: str = "classification"
    """What the model learns: "classification" (cross-entropy) or "regression" (mean squared error)."""
    metrics: list[str] = field(default_factory=lambda: ["accuracy"])
    score: str = "accuracy"

    @property
    def decides(self) -> str:
        """What a prediction is: a "class" number or a "value"."""
        return "class" if self.kind == "classification" else "value"

    def known_metrics(self) -> Mapping[str, str]:
        """See `Task.known_metrics`."""
        return metrics.OF_CLASSES if self.decides == "class" else metrics.OF_VALUES

    def check_score(self, dev: Dataset) -> None:
        """Raise LabError where the score does not exist on dev."""
        if not metrics.exists(self.score, np.asarray(references(dev))):
            raise LabError(
                f"task.score={self.score}: all {len(dev)} dev labels of task '{self.name}' are equal, and a correlation "
                f"with them does not exist. Score on other data, or by another metric."
            )

    def module(self, backbone: Backbone, splits: Splits) -> TaskModule:
        """See `Task.module`."""
        from minilm_lab.tasks.module import load_module
        from minilm_lab.tasks.pooled import is_pooled, load_pooled

        outputs = 1 if splits.labels is None else len(splits.labels)
        if not is_pooled(backbone):
            return load_module(self.kind, backbone, outputs, splits.labels)
        if backbone.pairs == "bi" and "pair" not in splits.train.column_names:
            raise LabError(f"tune.pairs=bi: task={self.name} has single texts, no pairs; leave it at cross.")
        numbers = splits.train["label"][:] if splits.labels is None else [0, 1]
        return load_pooled(
            self.kind, backbone, outputs, (float(min(numbers)), float(max(numbers))), splits.labels
        )

    def features(self, splits: Splits, name: str, tokenizer: PreTrainedTokenizerBase) -> Features:
        """See `Task.features`."""
        from minilm_lab.tasks.features import featurize

        return featurize(splits.named(name), tokenizer, length=self.length)

    def predictions(self, outputs: np.ndarray) -> np.ndarray:
        """Turn a model's outputs (examples, outputs) into predictions (examples,): class numbers or values."""
        return outputs.argmax(axis=1) if self.kind == "classification" else outputs.reshape(len(outputs))

    def judge(self, outputs: Sequence[np.ndarray], samples: Samples, splits: Splits, name: str) -> Result:
        """See `Task.judge`; outputs: (outputs,) float32 for each text."""
        metrics.check_finite(outputs, self.name)
        split, predicted = splits.judged[name], self.predictions(np.stack(outputs))
        rows = [
            {"id": i, "prediction": float(p), "outputs": output.tolist()}
            for i, p, output in zip(split["id"], predicted, outputs, strict=True)
        ]
        if not is_labelled(split):
            return Result({}, rows)
        right = np.asarray(references(split))
        if "group" in split.column_names:
            scores = metrics.score_groups(self.metrics, predicted, right, split["group"])
        else:
            scores = metrics.score(self.metrics, predicted, right)
        pairs = zip(rows, right, strict=True)
        return Result(scores, [row | {"reference": float(reference)} for row, reference in pairs])
