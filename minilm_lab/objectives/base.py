"""What every objective answers to the distillation module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import PretrainedConfig

from minilm_lab.models.taps import Needs, Seen


@dataclass
class Views:
    """What an objective gets for one micro-batch."""

    student: Seen
    teacher: Seen
    mask: Tensor | None = None
    """(batch, length) bool, true = real token; None when all are."""
    labels: Tensor | None = None
    """(masked positions,) int64: the true tokens, in row-major order; None unless the objective masks."""
    lifts: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    """The objective's own trained maps, by name."""
    backend: str = "auto"
    """Of relation_kls."""


class Objective(ABC):
    """A loss between what one forward pass of the student and one of the teacher show.

    Subclasses are dataclasses: their fields are the objective's settings and part of a run's identity.
    """

    #: Whether the objective trains at all; False for the control without distillation.
    trains: ClassVar[bool] = True

    def check(  # noqa: B027 - most objectives fit every pair of models
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int
    ) -> None:
        """Raise LabError if this pair of models cannot be distilled with these settings.

        distilled: the teacher layer of `teacher.layer`, from 1.
        """

    def resolve(self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int) -> Objective:
        """The same objective with every setting that depends on the models filled in."""
        return self

    def needs(self) -> tuple[Needs, Needs]:
        """What a resolved objective reads of the student and of the teacher."""
        return Needs(), Needs()

    @property
    def masked_share(self) -> float:
        """Share of the tokens that masked language modelling hides; 0 = the text is left as it is."""
        return 0.0

    def lifts(self, student: PretrainedConfig, teacher: PretrainedConfig) -> nn.ModuleDict:
        """New maps of a resolved objective that are trained with the student and thrown away after distillation."""
        return nn.ModuleDict()

    @abstractmethod
    def losses(self, views: Views) -> dict[str, Tensor]:
        """Return named, weighted scalar losses (float32) whose sum is minimised."""

    def identity(self) -> dict[str, Any]:
        """The settings of a resolved objective that decide a result."""
        settings: Any = self
        return {"kind": type(self).__name__, **{f.name: getattr(self, f.name) for f in fields(settings)}}

    @abstractmethod
    def label(self) -> str:
        """A short name for run names and tables, such as "qq.kk.vv-48"."""
