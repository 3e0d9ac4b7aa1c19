"""evaluator=task: a model that was fine-tuned on a task, judged on it without training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from minilm_lab.errors import LabError
from minilm_lab.evaluation.on_task import OnTask
from minilm_lab.evaluation.result import Result
from minilm_lab.models.encoder import evaluating

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from minilm_lab.tasks.module import TaskModule


@dataclass
class OfTask(OnTask):
    """The task's scores on dev and on its further splits, as a fine-tuning ends with them."""

    takes: ClassVar[str] = "task"

    batch_size: int = 128
    """Samples a forward pass."""

    @property
    def primary(self) -> str:
        """The task's own."""
        return str(self._task.score)

    def check(self, model: PretrainedConfig) -> None:
        """Raise LabError: a body that is being distilled has no head."""
        raise LabError(
            "evaluator=task takes a fine-tuned model: minilm-lab evaluate source=… evaluator=task."
        )

    def prepare(self, hub: str | None, cache: Path) -> None:
        """Read the task's data."""
        super().prepare(hub, cache)
        self._cache = cache

    def open(self, where: str, revision: str | None) -> TaskModule:
        """See `Evaluator.open`; LabError for a model that was not fine-tuned on such a task."""
        module: TaskModule = self._task.module(
            self._task.backbone(where, revision, trained=True), self.splits
        )
        return module

    def __call__(self, model: TaskModule) -> Result:
        """The record's scores; predictions of dev as rows, those of other splits as files."""
        evaluators = self._task.evaluators(self.splits, model.tokenizer, self._cache, self.batch_size)
        with evaluating(model):
            results = {name: evaluator(model) for name, evaluator in evaluators.items()}
        scored = {n: r.scores for n, r in results.items() if n == "dev" or r.scores}
        files = {name: text for result in results.values() for name, text in result.files.items()}
        facts = {name: result.facts for name, result in results.items() if result.facts}
        return Result(self._task.combine(scored), results["dev"].rows, files, facts)
