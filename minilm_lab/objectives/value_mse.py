"""MiniLM with the values themselves in place of value relations: an ablation of the paper."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn
from transformers import PretrainedConfig

from minilm_lab.models.taps import Needs
from minilm_lab.objectives.base import Objective, Views
from minilm_lab.objectives.distances import token_mse
from minilm_lab.objectives.heads import projection_width
from minilm_lab.objectives.lift import lifted, lifts_between
from minilm_lab.objectives.predictions import check_weights
from minilm_lab.objectives.relations import RelationObjective


@dataclass
class ValueMSEObjective(Objective):
    """Attention distributions as in MiniLM, and the mean square difference of values, of the last layers.

    MiniLM (arXiv 2002.10957, section 4.3 and Table 6): a learned matrix without a bias lifts the student's values to
    the teacher's width. It is used only where the widths differ: between equal ones it would let the student's
    values be any linear image of the teacher's.
    """

    attention_weight: float = 1.0
    """Weight of the attention distributions."""
    value_weight: float = 1.0
    """Weight of the values: mean over real tokens and dimensions."""

    def __post_init__(self) -> None:
        check_weights(attention_weight=self.attention_weight, value_weight=self.value_weight)
        self.attention = RelationObjective(["qk"], None, [self.attention_weight])

    def check(self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int) -> None:
        """As of MiniLM's attention distributions."""
        self.attention.check(student, teacher, distilled)

    def resolve(
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int
    ) -> ValueMSEObjective:
        """The same objective, knowing the heads and the layers."""
        resolved = replace(self)
        resolved.attention = self.attention.resolve(student, teacher, distilled)
        return resolved

    def needs(self) -> tuple[Needs, Needs]:
        """What the attention distributions need, and the values beside."""
        ours, theirs = self.attention.needs()
        (pair,) = self.attention.layers()
        return (
            ours | Needs(projections=frozenset({pair[0]})),
            theirs | Needs(projections=frozenset({pair[1]})),
        )

    def lifts(self, student: PretrainedConfig, teacher: PretrainedConfig) -> nn.ModuleDict:
        """The map "value", where the widths differ."""
        return lifts_between("value", projection_width(student), projection_width(teacher), bias=False)

    def losses(self, views: Views) -> dict[str, Tensor]:
        """loss_qk and loss_value."""
        (pair,) = self.attention.layers()
        ours = lifted(views.student.projections[pair[0]].value, "value", views.lifts)
        theirs = views.teacher.projections[pair[1]].value
        value = self.value_weight * token_mse(ours, theirs, views.mask)
        return {**self.attention.losses(views), "loss_value": value}

    def label(self) -> str:
        """value_mse."""
        return "value_mse"
