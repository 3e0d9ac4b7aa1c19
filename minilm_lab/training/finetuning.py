"""A fine-tuning: all that it needs, typed and checked. Its work is in `finetuner`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilm_lab.models.adapters import Adapter
from minilm_lab.training.settings import How, Tune

if TYPE_CHECKING:
    from minilm_lab.data.splits import Splits
    from minilm_lab.runs.folder import RunFolder
    from minilm_lab.tasks.base import Task
    from minilm_lab.tasks.remembered import TaskData


@dataclass(frozen=True)
class Finetuning:
    """Everything a fine-tuning needs, typed and checked; nothing is loaded yet."""

    source: str
    """Folder or hub id of the model."""
    revision: str | None
    """Its revision on the hub."""
    origin: dict[str, Any]
    """Record of what is fine-tuned: {"kind": "teacher" | "run" | "path", "run": identity or None, …}."""
    names: dict[str, str]
    task: Task
    data: TaskData
    """Of the task; read when it is needed."""
    tune: Tune
    epochs: int
    how: How
    teacher: Path | None = None
    """Folder of the model that was fine-tuned on the task and teaches it."""
    adapter: Adapter = field(default_factory=Adapter)
    """Whether the whole model is trained, or adapters."""

    @property
    def splits(self) -> Splits:
        """The task's data."""
        return self.data.splits

    def train(self, folder: RunFolder) -> dict[str, Any]:
        """Fine-tune, save the predictions (predictions.jsonl is dev's) and return its part of the record."""
        from minilm_lab.training.finetuner import finetune

        return finetune(self, folder)
