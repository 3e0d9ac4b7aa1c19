"""Judge a module on one split of its task."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from minilm_lab.data.loading import Samples, eval_batches
from minilm_lab.evaluation.base import Evaluator
from minilm_lab.evaluation.result import Result
from minilm_lab.models.encoder import evaluating

if TYPE_CHECKING:
    from minilm_lab.data.splits import Splits
    from minilm_lab.tasks.base import Task
    from minilm_lab.tasks.module import TaskModule


class Judging(Evaluator):
    """The task's scores of one split; what `Task.evaluators` gives."""

    takes: ClassVar[str] = "task"

    def __init__(self, task: Task, splits: Splits, name: str, samples: Samples, batch_size: int) -> None:
        self.task, self.splits, self.name = task, splits, name
        self.samples, self.batch_size = samples, batch_size

    @property
    def primary(self) -> str:
        """``task.score``."""
        return self.task.score

    def identity(self) -> dict[str, Any]:
        """The task, its data and the split."""
        return {**self.task.identity(), "split": self.name, "fingerprint": self.splits.checksum()}

    def prepare(self, hub: str | None, cache: Path) -> None:
        """Its data was read."""

    def open(self, where: str, revision: str | None) -> TaskModule:
        """A module that was fine-tuned on this task."""
        return self.task.module(self.task.backbone(where, revision, trained=True), self.splits)

    def __call__(self, module: TaskModule) -> Result:
        """Predict every sample, and let the task make scores of that."""
        with evaluating(module):
            return self.whole([self.part(module, 0, 1)])

    def part(self, module: TaskModule, rank: int, world: int) -> dict[int, np.ndarray]:
        """The predictions of every `world`-th batch, by the numbers of the samples; in eval mode."""
        outputs: dict[int, np.ndarray] = {}
        for batch in islice(eval_batches(self.samples, self.batch_size), rank, None, world):
            rows = batch.pop("index").tolist()
            moved = {name: tensor.to(module.device) for name, tensor in batch.items()}
            outputs |= zip(rows, module.predict(moved), strict=True)
        return outputs

    def whole(self, parts: Sequence[dict[int, np.ndarray]]) -> Result:
        """The task's scores of all predictions."""
        outputs = {row: output for part in parts for row, output in part.items()}
        count = len(self.samples.lengths)
        assert len(outputs) == count, "every sample is in a batch"
        ordered = [outputs[row] for row in range(count)]
        return self.task.judge(ordered, self.samples, self.splits, self.name)
