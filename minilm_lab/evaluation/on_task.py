"""Evaluators on the data of a task: what an encoder's vectors know, without fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from minilm_lab.config import option
from minilm_lab.errors import LabError
from minilm_lab.evaluation.base import Evaluator
from minilm_lab.models.families import positions_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from minilm_lab.data.splits import Splits
    from minilm_lab.models.encoder import Encoder


@dataclass
class OnTask(Evaluator):
    """An evaluator on the data of a task."""

    task: dict[str, Any] = field(default_factory=dict)
    """The task, as a file of conf/task gives it, `_target_` included."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._task = task_of(self.task)
        self._splits: Splits | None = None

    @property
    def splits(self) -> Splits:
        """What `prepare` read."""
        if self._splits is None:
            raise ValueError("prepare() comes first: it reads the data")
        return self._splits

    def identity(self) -> dict[str, Any]:
        """See `Evaluator.identity`; of the task what it computes, and the fingerprint of its data."""
        task = {**self._task.identity(), "fingerprint": self.splits.checksum()}
        return {**super().identity(), "task": task}

    def prepare(self, hub: str | None, cache: Path) -> None:
        """Read the task's data."""
        self._splits = self._task.load(hub, cache)


@dataclass
class EncoderSettings(Evaluator):
    """How the vectors of a text encoder are made."""

    takes: ClassVar[str] = "encoder"

    layer: int = -1
    """Whose hidden states are pooled: −1 = the last layer's, −2 = those that enter the last layer, …"""
    length: int = 128
    """Tokens of a text; longer ones are cut."""
    batch_size: int = 128
    """Texts a forward pass."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("length", "batch_size"):
            if getattr(self, name) < 1:
                raise LabError(f"evaluator.{name}={getattr(self, name)} must be at least 1.")

    def check(self, model: PretrainedConfig) -> None:
        """Raise LabError when the model has too few positions or layers for these settings."""
        positions, layers = positions_of(model), int(model.num_hidden_layers)
        if self.length > positions:
            raise LabError(
                f"evaluator.length={self.length} is beyond the {positions} positions of the student."
            )
        if not -layers - 1 <= self.layer <= layers:
            raise LabError(
                f"evaluator.layer={self.layer}: the student has {layers} layers; give 0 (embeddings) to {layers}, "
                f"or −1 (the last) to {-layers - 1}."
            )

    def wrap(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Encoder:
        """See `Evaluator.wrap`: the mean over the tokens."""
        from minilm_lab.models.encoder import Encoder

        return Encoder(model, tokenizer, layer=self.layer, length=self.length, batch_size=self.batch_size)

    def open(self, where: str, revision: str | None) -> Encoder:
        """See `Evaluator.open`; pooled as the folder says, else by the mean."""
        from minilm_lab.models.encoder import Encoder

        return Encoder.load(where, revision, layer=self.layer, length=self.length, batch_size=self.batch_size)


@dataclass
class OfEncoder(EncoderSettings, OnTask):
    """An evaluator of the vectors of a text encoder, on the data of a task."""


def task_of(values: Mapping[str, Any], where: str = "evaluator.task") -> Any:
    """The task of these settings: tasks stand above evaluators, which know one by what it offers."""
    return option(values, "task", where)
