"""Masked language modelling: the small model pretrained from scratch, without a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from minilm_lab.models.taps import Needs
from minilm_lab.objectives.base import Loss, Objective, Views
from minilm_lab.objectives.predictions import check_masked_lm, check_share, true_tokens

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass
class MLMObjective(Objective):
    """Cross-entropy of the student's predictions with the true tokens (BERT, arXiv 1810.04805, section 3.1).

    The teacher gives its vocabulary and the student's shape, nothing else.

    Loss, of teacher ᵗ and student ˢ:

        L = −1/M · Σ_m log pˢ(x_m | masked text)

    | of | reads | shape |
    |---|---|---|
    | student | logits at the masked positions | (M, V) |
    | text | the masked tokens | (M,) int64 |

    Needs: Nothing of the teacher but its tokenizer and shape.

    When to use it: As a control: what the text alone teaches.

    Example:

        minilm-lab distill objective=mlm
    """

    mask_probability: float = 0.15
    """Share of the tokens that are hidden: 80 % behind the mask token, 10 % a random token, 10 % as they are."""

    def __post_init__(self) -> None:
        check_share(self.mask_probability)

    def _bind(
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int, grouped: str
    ) -> Loss:
        check_masked_lm(student)
        return MLMLoss((Needs(logits=True), Needs()), self.settings(), "mlm", self.mask_probability)


class MLMLoss(Loss):
    """Reads the student's predictions and nothing of the teacher."""

    def forward(self, views: Views) -> dict[str, Tensor]:
        """loss_mlm."""
        assert views.student.logits is not None and views.labels is not None
        return {"loss_mlm": true_tokens(views.student.logits, views.labels)}
