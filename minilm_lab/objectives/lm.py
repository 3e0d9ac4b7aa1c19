"""Next-token prediction: the small causal model trained on text, without a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from minilm_lab.errors import LabError
from minilm_lab.models.families import family_of
from minilm_lab.models.next_token import next_token_loss
from minilm_lab.models.taps import Needs
from minilm_lab.objectives.base import Loss, Objective, Views

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass
class LMObjective(Objective):
    """Cross-entropy of the student's next tokens with the text's (GPT-2's loss): the control of causal distillation.

    The teacher gives tokenizer and shape, and the weights that `student.init` copies.

    Loss, of teacher ᵗ and student ˢ:

        L = −1/L · Σ_t log pˢ(x_t | x_<t)

    | of | reads | shape |
    |---|---|---|
    | student | logits of the next tokens, in chunks | (B, L, V), never whole |
    | text | the tokens | (B, L) int64 |

    Needs: A causal teacher.

    When to use it: As the control of lm_kd: the same student on the same text, without the teacher's predictions.

    Example:

        minilm-lab distill teacher=smollm2_135m student.layers=24 student.depth_ratio=null student.init.layers=uniform student.init.embeddings=teacher objective=lm
    """

    def _bind(
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int, grouped: str
    ) -> Loss:
        check_causal_lm(student)
        return LMLoss((Needs(next_tokens=True), Needs()), self.settings(), "lm")


class LMLoss(Loss):
    """Reads the student's hidden states and head, and nothing of the teacher."""

    def forward(self, views: Views) -> dict[str, Tensor]:
        """loss_lm."""
        assert views.student.next_tokens is not None and views.ids is not None
        hidden, head = views.student.next_tokens
        before, labels = next_places(views.ids, views.mask)
        soft, hard = next_token_loss(hidden.flatten(0, 1)[before], head, labels)
        return {"loss_lm": soft + hard}


def next_places(ids: Tensor, mask: Tensor | None, written: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Places in batch × length, row after row, that a real token of the same row follows; and these tokens.

    ids: int64 (batch, length); mask: bool, the same shape, or None; written: bool, the tokens that count, None = all.
    Returns int64 (positions,) twice.
    """
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    followed = real.clone()
    followed[:, :-1] &= real[:, 1:] if written is None else (real & written)[:, 1:]
    followed[:, -1] = False
    before = followed.flatten().nonzero()[:, 0]
    return before, ids.flatten()[before + 1]


def check_causal_lm(*models: PretrainedConfig) -> None:
    """LabError if one of the models does not predict the next token."""
    for config in models:
        if not family_of(config).causal:
            raise LabError(
                f"a '{config.model_type}' model sees the tokens behind, so it cannot learn to predict the next one; use "
                "objective=mlm, mlm_kd or minilmv2, or a causal teacher such as teacher=gpt2"
            )
