"""A distillation: all that it needs, typed and checked. Its work is in `distiller`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from minilm_lab.evaluation.base import Evaluator, NoEvaluator
from minilm_lab.models.student import Student
from minilm_lab.models.teacher import Teacher
from minilm_lab.objectives.base import Loss, Objective
from minilm_lab.runs.folder import RunFolder
from minilm_lab.training.settings import How, Optim, Scale


@dataclass(frozen=True)
class Distillation:
    """Everything a distillation needs; nothing is loaded yet."""

    teacher: Teacher
    student: Student
    objective: Objective
    corpus: Any
    optim: Optim
    scale: Scale
    seed: int
    how: How
    evaluator: Evaluator = field(default_factory=NoEvaluator)
    """What is measured of the student along the way; not part of what is computed."""
    head: Path | None = None
    """Folder of the teacher with a masked-LM head of the lab's training; None: the checkpoint's own, if it is read."""

    @cached_property
    def loss(self) -> Loss:
        """The objective bound to this pair, its lifts as they start; LabError if the two cannot be a pair."""
        teacher = self.teacher.config(self.how.cache)
        layer = self.teacher.distilled_layer(teacher)
        # Lifts start at random: from the run's seed, whatever ran before in this process.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            return self.objective.bind(
                self.student.config(teacher), teacher, layer, grouped=self.teacher.grouped
            )

    def names(self) -> dict[str, str]:
        """Short names of the parts, for tables and dashboards."""
        return {
            "teacher": self.teacher.name,
            "student": self.student.name,
            "objective": self.loss.label(),
            "corpus": self.corpus.name,
            "scale": self.scale.name,
        }

    def train(self, folder: RunFolder) -> dict[str, Any]:
        """Distil (or, without an objective, initialise) and save the student; returns its part of the record."""
        from minilm_lab.training.distiller import distil

        return distil(self, folder)
