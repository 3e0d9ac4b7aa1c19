"""The LightningModule that holds the student and the frozen teacher."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from minilm_lab.models.tapped import Tapped
from minilm_lab.models.taps import Seen
from minilm_lab.objectives.base import Loss, Views
from minilm_lab.training.optimizer import Optimised
from minilm_lab.training.settings import Optim


class Distiller(Optimised):
    """Both models run as far as the objective reads them, and no further.

    The teacher and the tapped views are kept out of the module's registry: no checkpoint, optimizer, `train()` or
    DDP broadcast ever sees them. The loss's lifts are trained and checkpointed with the student. What the
    loss cannot reach in the student is frozen, so weight decay does not wear it down.
    """

    def __init__(
        self,
        student: Tapped,
        teacher: Tapped,
        loss: Loss,
        optim: Optim,
        steps: int,
        *,
        backend: str = "auto",
        compile: bool = False,
        fused: bool = True,
        teacher_type: torch.dtype | None = None,
    ) -> None:
        """student, teacher: views that read what `loss.reads` says."""
        super().__init__(optim, steps, fused)
        self.student = student.model
        self.loss, self.backend = loss, backend
        teacher.eval().requires_grad_(False)
        # A tuple hides a module from nn.Module's registry.
        self._hidden = (teacher, student)
        self._run: tuple[Any, Any] = self._hidden
        self.teacher_type: torch.dtype | None = None
        self.untrained = self._unreached()
        for name, parameter in self.student.named_parameters():
            parameter.requires_grad_(name not in set(self.untrained))
        # None: float32 weights, autocast like the student. Else the teacher is in this type and not autocast.
        self.teacher_type = teacher_type
        if teacher_type is not None:
            teacher.to(teacher_type)
        if compile:
            self._run = (
                torch.compile(self._hidden[0], dynamic=False),
                torch.compile(self._hidden[1], dynamic=False),
            )

    def on_fit_start(self) -> None:
        """Lightning moves only what it knows of: the teacher follows by hand."""
        teacher, _ = self._hidden
        teacher.to(self.device)

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return {"loss": the sum, "loss_qq": …} for a batch of data.batches (see Batch)."""
        ids, mask, masked = batch["input_ids"], batch["mask"], batch["masked"]
        _, student = self._run
        views = Views(
            student=student(ids, mask, masked),
            teacher=self._teach(ids, mask, masked),
            mask=mask,
            labels=batch["labels"],
            backend=self.backend,
        )
        terms = self.loss(views)
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    @torch.no_grad()
    def _teach(self, ids: Tensor, mask: Tensor | None, masked: Tensor | None) -> Seen:
        teacher, _ = self._run
        own = nullcontext() if self.teacher_type is None else torch.autocast(ids.device.type, enabled=False)
        with own:
            seen: Seen = teacher(ids, mask, masked)
        return seen

    def training_step(self, batch: dict[str, Any], index: int) -> dict[str, Tensor]:
        """One micro-batch."""
        return self.losses(batch)

    def _unreached(self) -> list[str]:
        """Names of the student's parameters that the loss has no gradient for; they stay as initialised.

        Found by asking: one backward pass on two short samples. The teacher sees other tokens than the student,
        so that a student which equals its teacher has a gradient too.
        """
        vocabulary = int(self.student.config.vocab_size)
        ids = torch.arange(16).reshape(2, 8) * 7919 % max(vocabulary - 8, 1) + 5
        ids = ids % vocabulary
        masked, labels = None, None
        if self.loss.masked_share:
            masked, labels = torch.tensor([1, 3, 9, 12]), torch.tensor([6, 7, 8, 9]) % vocabulary
        _, student = self._hidden
        views = Views(student(ids, None, masked), self._teach(ids.flip(1), None, masked), None, labels)
        torch.stack(list(self.loss(views).values())).sum().backward()
        parameters = dict(self.student.named_parameters())
        names = [name for name, p in parameters.items() if p.grad is None or not p.grad.any()]
        self.zero_grad()
        return names
