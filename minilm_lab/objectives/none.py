"""No distillation: the control. The student is initialised, saved and fine-tuned like every other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from minilm_lab.objectives.base import Objective, Views


@dataclass
class NoObjective(Objective):
    """Trains nothing and reads nothing; its run keeps the student as initialised."""

    trains: ClassVar[bool] = False

    def losses(self, views: Views) -> dict[str, Tensor]:
        """Never called: there is nothing to minimise."""
        raise NotImplementedError("objective=none trains nothing")

    def label(self) -> str:
        """none."""
        return "none"
