"""Masked language modelling: the small model pretrained from scratch, without a teacher."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers import PretrainedConfig

from minilm_lab.models.taps import Needs
from minilm_lab.objectives.base import Objective, Views
from minilm_lab.objectives.predictions import check_masked_lm, check_share, true_tokens


@dataclass
class MLMObjective(Objective):
    """Cross-entropy of the student's predictions with the true tokens (BERT, arXiv 1810.04805, section 3.1).

    The teacher gives its vocabulary and the student's shape, nothing else.
    """

    mask_probability: float = 0.15
    """Share of the tokens that are hidden: 80 % behind the mask token, 10 % a random token, 10 % as they are."""

    def __post_init__(self) -> None:
        check_share(self.mask_probability)

    def check(self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int) -> None:
        """Refuse a student without a masked-LM head."""
        check_masked_lm(student)

    def needs(self) -> tuple[Needs, Needs]:
        """The student's predictions; nothing of the teacher."""
        return Needs(logits=True), Needs()

    @property
    def masked_share(self) -> float:
        """mask_probability."""
        return self.mask_probability

    def losses(self, views: Views) -> dict[str, Tensor]:
        """loss_mlm."""
        assert views.student.logits is not None and views.labels is not None
        return {"loss_mlm": true_tokens(views.student.logits, views.labels)}

    def label(self) -> str:
        """mlm."""
        return "mlm"
