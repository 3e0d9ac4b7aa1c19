"""MiniLM with the values themselves in place of value relations: an ablation of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from minilm_lab.models.taps import Needs
from minilm_lab.objectives.base import Loss, Objective, Views, lift
from minilm_lab.objectives.distances import token_mse
from minilm_lab.objectives.heads import projection_width
from minilm_lab.objectives.predictions import check_weights
from minilm_lab.objectives.relations import RelationObjective

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass
class ValueMSEObjective(Objective):
    """Attention distributions as in MiniLM, and the mean square difference of values, of the last layers.

    MiniLM (arXiv 2002.10957, section 4.3 and Table 6): a learned matrix without a bias lifts the student's values to
    the teacher's width. It is used only where the widths differ: between equal ones it would let the student's
    values be any linear image of the teacher's.

    Loss, of teacher ᵗ and student ˢ:

        L = mean over heads h and real queries i of KL( softmax(Qᵗ Kᵗᵀ / √d) ‖ softmax(Qˢ Kˢᵀ / √d) ) + MSE(W Vˢ, Vᵗ)

    | of | reads | shape |
    |---|---|---|
    | student, teacher | queries, keys, values of the last layers | (B, L, D) each |

    Needs: As many attention heads as the teacher.

    When to use it: The ablation of MiniLM's Table 6: what relations of values are better than.

    Example:

        minilm-lab distill objective=value_mse
    """

    attention_weight: float = 1.0
    """Weight of the attention distributions."""
    value_weight: float = 1.0
    """Weight of the values: mean over real tokens and dimensions."""

    def __post_init__(self) -> None:
        check_weights(attention_weight=self.attention_weight, value_weight=self.value_weight)

    def _bind(
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int, grouped: str
    ) -> Loss:
        attention = RelationObjective(["qk"], None, [self.attention_weight])
        bound = attention.bind(student, teacher, distilled)
        widths = projection_width(student), projection_width(teacher)
        layers = int(student.num_hidden_layers), distilled
        return ValueMSELoss(self, bound, layers, lift(*widths, bias=False))


class ValueMSELoss(Loss):
    """Reads what the attention distributions need, and the values beside; `lift` is from width to width."""

    def __init__(
        self, objective: ValueMSEObjective, attention: Loss, layers: tuple[int, int], lift: nn.Module
    ) -> None:
        ours, theirs = (
            reads | Needs(projections=frozenset({layer}))
            for reads, layer in zip(attention.reads, layers, strict=True)
        )
        super().__init__((ours, theirs), objective.settings(), "value_mse")
        self.value_weight, self.layers = objective.value_weight, layers
        self.attention, self.lift = attention, lift

    def forward(self, views: Views) -> dict[str, Tensor]:
        """loss_qk and loss_value."""
        ours = self.lift(views.student.projections[self.layers[0]].value)
        theirs = views.teacher.projections[self.layers[1]].value
        value = self.value_weight * token_mse(ours, theirs, views.mask)
        return {**self.attention(views), "loss_value": value}
