"""What every objective answers to the distillation module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor
from transformers import PretrainedConfig

from minilm_lab.models.stopping import Projections


class Objective(ABC):
    """A loss between the projections of one student layer and one teacher layer.

    Subclasses are dataclasses: their fields are the objective's settings and part of a run's identity.
    """

    #: Whether the objective trains at all; False for the control without distillation.
    trains: ClassVar[bool] = True

    @abstractmethod
    def check(self, student: PretrainedConfig, teacher: PretrainedConfig) -> None:
        """Raise LabError if this pair of models cannot be distilled with these settings."""

    @abstractmethod
    def losses(
        self, student: Projections, teacher: Projections, mask: Tensor | None, backend: str
    ) -> dict[str, Tensor]:
        """Return named, weighted scalar losses whose sum is minimised.

        student, teacher: projections (batch, length, hidden size) of each model's own width;
        mask: (batch, length) bool, true = real token, or None when all are; backend: of relation_kl.
        """

    def resolve(self, teacher: PretrainedConfig) -> Objective:
        """The same objective with every setting that depends on the teacher filled in."""
        return self

    def identity(self) -> dict[str, Any]:
        """The settings that decide a result."""
        return {"kind": type(self).__name__, **vars(self)}

    @abstractmethod
    def label(self) -> str:
        """A short name for run names and tables, such as "qq.kk.vv-48"."""
