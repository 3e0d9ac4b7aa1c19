"""No distillation: the control. The student is initialised, saved and fine-tuned like every other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from minilm_lab.models.taps import Needs
from minilm_lab.objectives.base import Loss, Objective, Views


@dataclass
class NoObjective(Objective):
    """Trains nothing and reads nothing; its run keeps the student as initialised.

    | of | reads | shape |
    |---|---|---|
    | nothing |  |  |

    Needs: Nothing.

    When to use it: As the control of every other objective: the same student from the same weights.

    Example:

        minilm-lab finetune objective=none task=sentiment
    """

    trains: ClassVar[bool] = False
    reads_groups: ClassVar[bool] = True

    def _bind(self, *models: Any) -> Loss:
        return NoLoss((Needs(), Needs()), self.settings(), "none")


class NoLoss(Loss):
    """Of no models."""

    def forward(self, views: Views) -> dict[str, Tensor]:
        """Never called: there is nothing to minimise."""
        raise NotImplementedError("objective=none trains nothing")
