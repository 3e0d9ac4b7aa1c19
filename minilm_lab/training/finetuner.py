"""The LightningModule that fine-tunes a module on a downstream task."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from minilm_lab.tasks.module import TaskModule
from minilm_lab.training.optimizer import Optimised
from minilm_lab.training.settings import Optim


class Finetuner(Optimised):
    """Minimises the sum of a task module's losses; what kind of task it is, only the module knows."""

    def __init__(self, model: TaskModule, optim: Optim, steps: int, *, fused: bool = True) -> None:
        super().__init__(optim, steps, fused)
        self.model = model

    def terms(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The module's losses; a single one is the loss and needs no other name."""
        losses = self.model.losses(batch)
        return losses if len(losses) > 1 else {"loss": next(iter(losses.values()))}
