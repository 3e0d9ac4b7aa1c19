"""An objective is settings; bound to a pair of models it is a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from minilm_lab.errors import LabError
from minilm_lab.models.families import check_tapped
from minilm_lab.models.taps import Needs, Seen

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class OnPolicy:
    """Texts that the student writes itself, for the teacher to judge (GKD, arXiv 2306.13649)."""

    share: float
    """Of the steps."""
    prompt: int
    """Tokens of a block that are given; the student writes on to the block's length."""


@dataclass
class Views:
    """What a loss gets for one micro-batch."""

    student: Seen
    teacher: Seen
    mask: Tensor | None = None
    """(batch, length) bool, true = real token; None when all are."""
    labels: Tensor | None = None
    """(masked positions,) int64: the true tokens, in row-major order; None unless the loss masks."""
    backend: str = "auto"
    """Of relation_kls."""
    ids: Tensor | None = None
    """(batch, length) int64: the tokens that were read."""
    written: Tensor | None = None
    """(batch, length) bool, true = written by the student (OnPolicy); None: a text of the corpus."""


class Loss(nn.Module, ABC):
    """An objective bound to a pair of models: what it reads of them, and named scalars from that.

    It owns its lifts, the maps that are trained with the student and thrown away after distillation. Nothing else of
    it changes once it is made.
    """

    on_policy: OnPolicy | None = None
    """Whether some steps are on texts of the student's own."""

    def __init__(
        self, reads: tuple[Needs, Needs], identity: dict[str, Any], label: str, masked_share: float = 0.0
    ) -> None:
        super().__init__()
        self.reads = reads
        """Of the student and of the teacher."""
        self.masked_share = masked_share
        """Share of the tokens that masked language modelling hides; 0 = the text is left as it is."""
        self._identity, self._label = identity, label

    def identity(self) -> dict[str, Any]:
        """What decides a result: the settings, with numbers in place of what the models decide."""
        return self._identity

    def label(self) -> str:
        """A short name for run names and tables, such as "qq.kk.vv-48"."""
        return self._label

    @abstractmethod
    def forward(self, views: Views) -> dict[str, Tensor]:
        """Return named, weighted scalar losses (float32) whose sum is minimised."""


class Objective(ABC):
    """What a student must match. A subclass is a dataclass of settings, with a `_bind` that makes its Loss of them."""

    trains: ClassVar[bool] = True
    """Whether the objective trains at all; False for the control without distillation."""
    reads_groups: ClassVar[bool] = False
    """Whether keys and values can be read at the width of their groups (teacher.grouped=group)."""

    def bind(
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int, *, grouped: str = "repeat"
    ) -> Loss:
        """Return the loss between these two models. Lifts are drawn from torch's generator.

        Args:
            distilled: the teacher layer of `teacher.layer`, from 1.
            grouped: repeat | group: how keys and values that several heads share are read.

        Raises:
            LabError: the pair cannot be distilled with these settings.
        """
        if grouped == "group" and not self.reads_groups:
            raise LabError("teacher.grouped=group is for relations of Q, K and V; use teacher.grouped=repeat")
        loss = self._bind(student, teacher, distilled, grouped)
        for model, needs in zip((student, teacher), loss.reads, strict=True):
            if needs:
                check_tapped(model, "objective")
        return loss

    @abstractmethod
    def _bind(
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int, grouped: str
    ) -> Loss:
        """As `bind`, for a `grouped` that the objective can read."""

    def settings(self, *without: str, **decided: Any) -> dict[str, Any]:
        """An identity: the fields, less `without`, and `decided` by the models in place of what is set."""
        names = [field.name for field in fields(self) if field.name not in without]  # type: ignore[arg-type]
        return {"kind": type(self).__name__, **{name: getattr(self, name) for name in names}, **decided}


def lift(ours: int, theirs: int, bias: bool) -> nn.Module:
    """A learned map from the student's width `ours` to `theirs`, drawn by torch's default rule; equal widths need none."""
    return nn.Identity() if ours == theirs else nn.Linear(ours, theirs, bias)
