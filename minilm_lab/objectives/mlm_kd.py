"""MLM-KD: the teacher's masked-LM predictions as soft labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from minilm_lab.models.taps import Needs
from minilm_lab.objectives.base import Loss, Objective, Views
from minilm_lab.objectives.predictions import (
    check_masked_lm,
    check_share,
    check_temperature,
    check_vocabulary,
    check_weights,
    soft_labels,
    true_tokens,
)

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass
class MLMKDObjective(Objective):
    """soft_weight · T² KL(teacher ‖ student) + hard_weight · cross-entropy, at the masked positions.

    The baseline "MLM-KD (soft label)" of MiniLM's Table 3 (arXiv 2002.10957): "soft target probabilities for MLM
    predictions", without a hard loss; the paper states no temperature. The loss is Hinton et al.'s (arXiv 1503.02531).

    Loss, of teacher ᵗ and student ˢ:

        L = soft_weight · T² · mean_m KL( pᵗ_T(m) ‖ pˢ_T(m) ) − hard_weight · mean_m log pˢ(x_m),  p_T = softmax(logits / T)

    | of | reads | shape |
    |---|---|---|
    | student, teacher | logits at the masked positions | (M, V) |
    | text | the masked tokens | (M,) int64 |

    Needs: A checkpoint with a masked-LM head, or head=mlm, which trains one.

    When to use it: As a term beside relations, with a small weight; as the baseline of MiniLM's Table 3.

    Example:

        minilm-lab distill 'objective=[minilmv2,mlm_kd]' objective.weights.mlm_kd=0.1 head=mlm
    """

    temperature: float = 1.0
    """T: divides the logits of both models."""
    soft_weight: float = 1.0
    """Weight of the teacher's predictions."""
    hard_weight: float = 0.0
    """Weight of the true tokens."""
    mask_probability: float = 0.15
    """Share of the tokens that are hidden."""

    def __post_init__(self) -> None:
        check_share(self.mask_probability)
        check_temperature(self.temperature)
        check_weights(soft_weight=self.soft_weight, hard_weight=self.hard_weight)

    def _bind(
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int, grouped: str
    ) -> Loss:
        check_masked_lm(student, teacher)
        check_vocabulary(student, teacher)
        return MLMKDLoss(self)


class MLMKDLoss(Loss):
    """Reads the predictions of both models; of the student alone without a soft loss."""

    def __init__(self, objective: MLMKDObjective) -> None:
        reads = Needs(logits=True), Needs(logits=objective.soft_weight > 0)
        super().__init__(reads, objective.settings(), "mlm_kd", objective.mask_probability)
        self.objective = objective

    def forward(self, views: Views) -> dict[str, Tensor]:
        """loss_soft and loss_mlm; a term of weight 0 is left out."""
        settings, ours, theirs = self.objective, views.student.logits, views.teacher.logits
        assert ours is not None and views.labels is not None
        terms: dict[str, Tensor] = {}
        if settings.soft_weight:
            assert theirs is not None
            terms["loss_soft"] = settings.soft_weight * soft_labels(ours, theirs, settings.temperature)
        if settings.hard_weight:
            terms["loss_mlm"] = settings.hard_weight * true_tokens(ours, views.labels)
        return terms
