"""What every probe offers: its data, and a measurement of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minilm_lab.config import from_values, locate
from minilm_lab.data.splits import Splits
from minilm_lab.errors import LabError
from minilm_lab.tasks.base import Task


@dataclass
class Probe(ABC):
    """Settings of a probe. It changes nothing of what is trained, so it is no part of a run's identity."""

    #: Steps between two measurements; null = ten in a run. The student as initialised and at the end always.
    every: int | None = None
    #: Whose hidden states are pooled: −1 = the last layer's, −2 = those that enter the last layer, …
    layer: int = -1
    #: Tokens of a text; longer ones are cut.
    length: int = 128
    #: Texts a forward pass.
    batch_size: int = 128

    def __post_init__(self) -> None:
        for name in ("every", "length", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise LabError(f"probe.{name}={value} must be at least 1.")

    @property
    def measures(self) -> bool:
        """Whether there is anything to do."""
        return True

    def check(self, positions: int, layers: int) -> None:
        """Raise LabError when a model of so many positions and layers cannot be probed with these settings."""
        if self.measures and self.length > positions:
            raise LabError(f"probe.length={self.length} is beyond the {positions} positions of the student.")
        if self.measures and not -layers - 1 <= self.layer <= layers:
            raise LabError(
                f"probe.layer={self.layer}: the student has {layers} layers; give 0 (embeddings) to {layers}, "
                f"or −1 (the last) to {-layers - 1}."
            )

    @abstractmethod
    def load(self, hub: str | None, cache: Path) -> Splits:
        """Read the examples; LabError when they cannot be found. `hub`, `cache`: see ``Task.load``."""

    @abstractmethod
    def measure(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, splits: Splits
    ) -> dict[str, float]:
        """What the probe finds, by name, on a scale of 0 to 100. The model and random numbers are left as they were."""


@dataclass
class NoProbe(Probe):
    """Nothing is measured."""

    @property
    def measures(self) -> bool:
        """No."""
        return False

    def load(self, hub: str | None, cache: Path) -> Splits:
        """There is nothing to read."""
        raise ValueError("this probe measures nothing")

    def measure(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, splits: Splits
    ) -> dict[str, float]:
        """Nothing."""
        return {}


@dataclass
class TaskProbe(Probe):
    """A probe on the data of a task."""

    #: The task, as a file of conf/task gives it, `_target_` included.
    task: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._task = _task(self.task)

    def load(self, hub: str | None, cache: Path) -> Splits:
        """The examples of the task."""
        return self._task.load(hub, cache)


def _task(values: Mapping[str, Any]) -> Task:
    fields = {str(key): value for key, value in values.items()}
    target = fields.pop("_target_", None)
    if target is None:
        raise LabError("probe.task has no _target_; write task@probe.task=<a file of conf/task>.")
    task = from_values(locate(str(target), "probe.task"), fields, "probe.task")
    if not isinstance(task, Task):
        raise LabError(f"probe.task={target} is not a task.")
    return task
