"""The training of a masked-LM head: all that it needs, typed and checked. Its work is in `head_trainer`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minilm_lab.models.teacher import Teacher
from minilm_lab.runs.folder import RunFolder
from minilm_lab.training.settings import Head, How, Scale


@dataclass(frozen=True)
class HeadTraining:
    """Everything the training of a head needs; nothing is loaded yet."""

    teacher: Teacher
    head: Head
    corpus: Any
    scale: Scale
    """With the head's own number of steps."""
    seed: int
    how: How

    def names(self) -> dict[str, str]:
        """Short names of the parts, for tables and dashboards."""
        return {"teacher": self.teacher.name, "corpus": self.corpus.name, "scale": self.scale.name}

    def train(self, folder: RunFolder) -> dict[str, Any]:
        """Train the head, save teacher and head to `model/`, and return this part of the record."""
        from minilm_lab.training.head_trainer import train_head

        return train_head(self, folder)
