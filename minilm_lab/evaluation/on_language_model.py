"""Evaluators of causal models with their heads."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch

from minilm_lab.errors import LabError
from minilm_lab.evaluation.base import Evaluator
from minilm_lab.models.causal import check_causal
from minilm_lab.models.language_model import LanguageModel

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass
class OfLanguageModel(Evaluator):
    """An evaluator of a causal model with its head, alone and never along a distillation."""

    takes: ClassVar[str] = "language_model"

    batch_size: int = 128
    """Texts that are read or written at a time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in fields(self):
            value = getattr(self, setting.name)
            if type(value) is int and value < 1 and setting.name != "seed":
                raise LabError(f"evaluator.{setting.name}={value} must be at least 1.")

    def check(self, model: PretrainedConfig) -> None:
        """LabError for a model that does not predict the next token."""
        check_causal(model, "source")

    def prepare(self, hub: str | None, cache: Path) -> None:
        """Remember the folder for caches; there is nothing to read."""
        self._cache = cache

    def open(self, where: str, revision: str | None) -> LanguageModel:
        """In float32, on the GPU if there is one; LabError for encoders and for bodies without a head."""
        model = LanguageModel.load(where, revision, batch_size=self.batch_size)
        if torch.cuda.is_available():
            torch.nn.Module.to(model.model, "cuda")
        return model
