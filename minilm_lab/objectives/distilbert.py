"""DistilBERT's three losses: soft labels, masked language modelling, direction of the last hidden states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from minilm_lab.errors import LabError
from minilm_lab.models.taps import Needs
from minilm_lab.objectives.base import Loss, Objective, Views
from minilm_lab.objectives.distances import token_cosine
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
class DistilBERTObjective(Objective):
    """5 · T² KL(teacher ‖ student) + 2 · masked-LM cross-entropy + 1 − cosine of last hidden states.

    DistilBERT (arXiv 1910.01108, section 3); weights and T = 2 are those of its code. There the soft labels are of
    all tokens, here of the masked ones: over every token both heads' vocabulary-wide products would cost several
    times the rest of the step. Hidden states are compared at every real token, as there. Its student starts from the
    teacher's layers: student.init.layers=uniform student.init.embeddings=teacher.

    Loss, of teacher ᵗ and student ˢ:

        L = 5 · T² · mean_m KL( pᵗ_T(m) ‖ pˢ_T(m) ) − 2 · mean_m log pˢ(x_m) + 1 · mean_i (1 − cos(hˢ_i, hᵗ_i))

    | of | reads | shape |
    |---|---|---|
    | student, teacher | logits at the masked positions | (M, V) |
    | student, teacher | last hidden states | (B, L, D), equal widths |
    | text | the masked tokens | (M,) int64 |

    Needs: A checkpoint with a masked-LM head, or head=mlm, which trains one.

    When to use it: A general encoder that goes on to be fine-tuned, where the teacher's head is at hand.

    Example:

        minilm-lab distill objective=distilbert head=mlm student.init.layers=uniform student.init.embeddings=teacher
    """

    temperature: float = 2.0
    """T: divides the logits of both models."""
    soft_weight: float = 5.0
    """Weight of the teacher's predictions at the masked positions."""
    mlm_weight: float = 2.0
    """Weight of the true tokens there."""
    cosine_weight: float = 1.0
    """Weight of 1 − cosine between the last hidden states; they must be of one width."""
    mask_probability: float = 0.15
    """Share of the tokens that are hidden."""

    def __post_init__(self) -> None:
        check_share(self.mask_probability)
        check_temperature(self.temperature)
        check_weights(
            soft_weight=self.soft_weight, mlm_weight=self.mlm_weight, cosine_weight=self.cosine_weight
        )

    def _bind(
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int, grouped: str
    ) -> Loss:
        check_masked_lm(student, teacher)
        check_vocabulary(student, teacher)
        if self.cosine_weight and student.hidden_size != teacher.hidden_size:
            raise LabError(
                f"objective.cosine_weight={self.cosine_weight} compares hidden states, which needs one width: the "
                f"student has {student.hidden_size}, the teacher {teacher.hidden_size}; set "
                f"student.hidden_size={teacher.hidden_size} or objective.cosine_weight=0"
            )
        return DistilBERTLoss(self, int(student.num_hidden_layers), distilled)


class DistilBERTLoss(Loss):
    """Reads the predictions and the last hidden states of both models."""

    def __init__(self, objective: DistilBERTObjective, ours: int, theirs: int) -> None:
        """ours, theirs: the student's last layer and the distilled one."""
        soft, cosine = bool(objective.soft_weight), bool(objective.cosine_weight)
        reads = (
            Needs(logits=soft or bool(objective.mlm_weight), hidden=frozenset({ours} if cosine else ())),
            Needs(logits=soft, hidden=frozenset({theirs} if cosine else ())),
        )
        super().__init__(reads, objective.settings(), "distilbert", objective.mask_probability)
        self.objective, self.layers = objective, (ours, theirs)

    def forward(self, views: Views) -> dict[str, Tensor]:
        """loss_soft, loss_mlm and loss_cosine; a term of weight 0 is left out."""
        settings, student, teacher = self.objective, views.student, views.teacher
        terms: dict[str, Tensor] = {}
        if settings.soft_weight:
            assert student.logits is not None and teacher.logits is not None
            divergence = soft_labels(student.logits, teacher.logits, settings.temperature)
            terms["loss_soft"] = settings.soft_weight * divergence
        if settings.mlm_weight:
            assert student.logits is not None and views.labels is not None
            terms["loss_mlm"] = settings.mlm_weight * true_tokens(student.logits, views.labels)
        if settings.cosine_weight:
            ours, theirs = student.hidden[self.layers[0]], teacher.hidden[self.layers[1]]
            terms["loss_cosine"] = settings.cosine_weight * token_cosine(ours, theirs, views.mask)
        return terms
