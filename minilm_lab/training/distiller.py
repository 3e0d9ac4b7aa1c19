"""The LightningModule that holds the student and the frozen teacher."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from minilm_lab.models.stopping import StoppedModel, unreached
from minilm_lab.objectives.base import Objective
from minilm_lab.training.optimizer import Optimised
from minilm_lab.training.settings import Optim


class Distiller(Optimised):
    """Deep self-attention distillation: both models run up to Q, K, V of one layer each, and no further.

    The teacher and the two stopped views are kept out of the module's registry: no checkpoint, optimizer,
    `train()` or DDP broadcast ever sees them. What the loss cannot reach in the student is frozen, so weight
    decay does not wear it down.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: StoppedModel,
        objective: Objective,
        optim: Optim,
        steps: int,
        *,
        backend: str = "auto",
        compile: bool = False,
        fused: bool = True,
        teacher_type: torch.dtype | None = None,
    ) -> None:
        super().__init__(optim, steps, fused)
        self.student = student
        self.objective, self.backend = objective, backend
        depth = int(student.config.num_hidden_layers)
        stopped = StoppedModel(student, depth)
        self.untrained = unreached(student, stopped)
        for name, parameter in student.named_parameters():
            parameter.requires_grad_(name not in set(self.untrained))
        teacher.eval().requires_grad_(False)
        # None: float32 weights, autocast like the student. Else the teacher is in this type and not autocast.
        self.teacher_type = teacher_type
        if teacher_type is not None:
            teacher.to(teacher_type)
        # A tuple hides a module from nn.Module's registry.
        self._hidden = (teacher, stopped)
        self._run = tuple(torch.compile(m, dynamic=False) if compile else m for m in self._hidden)

    def on_fit_start(self) -> None:
        """Lightning moves only what it knows of: the teacher follows by hand."""
        teacher, _ = self._hidden
        teacher.to(self.device)

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return {"loss": the sum, "loss_qq": …} for a batch of input_ids and mask (None: all tokens are real)."""
        ids, mask = batch["input_ids"], batch["mask"]
        teacher, student = self._run
        own = nullcontext() if self.teacher_type is None else torch.autocast(ids.device.type, enabled=False)
        with torch.no_grad(), own:
            target = teacher(ids, mask)
        terms = self.objective.losses(student(ids, mask), target, mask, self.backend)
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    def training_step(self, batch: dict[str, Any], index: int) -> dict[str, Tensor]:
        """One micro-batch."""
        return self.losses(batch)
