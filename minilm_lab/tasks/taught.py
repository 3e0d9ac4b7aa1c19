"""A student that learns a task from its labels and from a teacher that was fine-tuned on the same task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from minilm_lab.data.loading import Batch
from minilm_lab.errors import LabError
from minilm_lab.tasks.module import TaskModule, Teachable

if TYPE_CHECKING:
    import numpy as np


class Taught(TaskModule):
    """The student's module; its losses are those of the labels and the distance to the teacher's scores.

    (1 − weight) · labels + weight · T² KL(teacher ‖ student), or the squared error of a number (Hinton et al. 2015;
    as a second stage of distillation in TinyBERT, arXiv 1909.10351).
    """

    def __init__(self, student: TaskModule, teacher: TaskModule, weight: float, temperature: float) -> None:
        """LabError unless both can be taught and read the same tokens."""
        super().__init__()
        for module in (student, teacher):
            if not isinstance(module, Teachable):
                raise LabError(
                    "tune.teacher is for tasks of labels, tags, spans and instructions; leave it out."
                )
        if student.tokenizer.get_vocab() != teacher.tokenizer.get_vocab():
            raise LabError("tune.teacher has another tokenizer than the student: it cannot read its batches.")
        self.student, self.tokenizer = student, student.tokenizer
        # A tuple hides the teacher from nn.Module's registry: it is in no checkpoint and never trained.
        self._teacher = (teacher.eval().requires_grad_(False),)
        self.weight, self.temperature = weight, temperature

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """loss_labels and loss_teacher."""
        student, teacher = self.student, self._teacher[0]
        assert isinstance(student, Teachable) and isinstance(teacher, Teachable)
        if teacher.device != student.device:
            teacher.to(student.device)
        return student.losses_with(teacher, batch, self.weight, self.temperature)

    def predict(self, batch: Batch) -> list[np.ndarray]:
        """The student's."""
        return self.student.predict(batch)

    def save(self, folder: Path) -> None:
        """The student alone."""
        self.student.save(folder)

    def facts(self) -> dict[str, Any]:
        """The student's."""
        return self.student.facts()

    def choose_kernels(self, *, on_cpu: bool, precision: str, length: int) -> None:
        """Of both."""
        for module in (self.student, self._teacher[0]):
            module.choose_kernels(on_cpu=on_cpu, precision=precision, length=length)
