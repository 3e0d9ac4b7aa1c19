"""No distillation: the control. The student is initialised, saved and fine-tuned like every other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from transformers import PretrainedConfig

from minilm_lab.models.stopping import Projections
from minilm_lab.objectives.base import Objective


@dataclass
class NoObjective(Objective):
    """Trains nothing; its run keeps the student as initialised."""

    trains: ClassVar[bool] = False

    def check(self, student: PretrainedConfig, teacher: PretrainedConfig) -> None:
        """Every pair of models is allowed."""

    def losses(
        self, student: Projections, teacher: Projections, mask: Tensor | None, backend: str
    ) -> dict[str, Tensor]:
        """Never called: there is nothing to minimise."""
        raise NotImplementedError("objective=none trains nothing")

    def label(self) -> str:
        """none."""
        return "none"
