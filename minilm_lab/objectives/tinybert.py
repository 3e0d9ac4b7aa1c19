"""TinyBERT's general distillation: attention scores and hidden states, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

import torch
from torch import Tensor

from minilm_lab.models.layer_map import Pairs
from minilm_lab.models.taps import Needs
from minilm_lab.objectives.base import Loss, Objective, Views, lift
from minilm_lab.objectives.distances import score_mse, token_mse
from minilm_lab.objectives.heads import check_equal_attention
from minilm_lab.objectives.layers import as_lists, check_layers, find_pairs, tell
from minilm_lab.objectives.predictions import check_weights

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass
class TinyBERTObjective(Objective):
    """Mean square difference of attention scores and of hidden states, the sum over paired layers.

    TinyBERT (arXiv 1909.10351, eq. 7 to 9), general distillation: scores before the softmax; hidden states after each
    paired layer and after the embeddings, lifted to the teacher's width by one learned map for all of them (with a
    bias, as in its code; none where the widths are equal). Means are over entries, as there, with one difference: its
    code sets the scores of padded keys to 0 and counts them, and counts padded queries and tokens; here padding is
    left out.

    Loss, of teacher ᵗ and student ˢ:

        L = Σ_(s,t) MSE(Aˢ_s, Aᵗ_t) + Σ_(s,t) MSE(W Hˢ_s, Hᵗ_t),  A = QKᵀ / √d before the softmax
        the second sum with the embeddings, (s, t) = (0, 0), too

    | of | reads | shape |
    |---|---|---|
    | student, teacher | attention scores of the paired layers | (B, A, L, L), equal heads |
    | student, teacher | hidden states of the paired layers and the embeddings | (B, L, D) |

    Needs: As many attention heads as the teacher.

    When to use it: Students with the teacher's heads at small budgets, where it was the best single objective here; long texts cost memory.

    Example:

        minilm-lab distill objective=tinybert student.init.layers=uniform student.init.embeddings=teacher
    """

    attention_weight: float = 1.0
    """Weight of the attention scores; with 0 the numbers of attention heads may differ."""
    hidden_weight: float = 1.0
    """Weight of the hidden states, embeddings included."""
    map: str = "uniform"
    """Which layers are compared: last, uniform, top."""
    pairs: Optional[list[list[int]]] = None
    """[student layer, teacher layer] pairs, from 1, in place of the map; null = those of the map."""

    def __post_init__(self) -> None:
        check_weights(attention_weight=self.attention_weight, hidden_weight=self.hidden_weight)
        check_layers(self.map, self.pairs)

    def _bind(
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int, grouped: str
    ) -> Loss:
        if self.attention_weight:
            why = f"objective.attention_weight={self.attention_weight} compares attention scores head by head"
            check_equal_attention(student, teacher, why, " or objective.attention_weight=0")
        pairs = find_pairs(self.map, self.pairs, student, teacher, distilled)
        layers = tell(self.map, self.pairs, usual=self.map == "uniform" and self.pairs is None)
        return TinyBERTLoss(self, pairs, layers, int(student.hidden_size), int(teacher.hidden_size))


class TinyBERTLoss(Loss):
    """Reads scores and hidden states of the paired layers, and the embeddings; `lift` is from width to width."""

    def __init__(
        self, objective: TinyBERTObjective, pairs: Pairs, layers: str, width: int, teacher_width: int
    ) -> None:
        none: frozenset[int] = frozenset()
        ours, theirs = (
            Needs(
                scores=frozenset(side) if objective.attention_weight else none,
                hidden=frozenset(side) | {0} if objective.hidden_weight else none,
            )
            for side in zip(*pairs, strict=True)
        )
        identity = objective.settings("map", pairs=as_lists(pairs))
        super().__init__((ours, theirs), identity, f"tinybert{layers}")
        self.objective, self.pairs = objective, pairs
        if objective.hidden_weight:
            self.lift = lift(width, teacher_width, bias=True)

    def forward(self, views: Views) -> dict[str, Tensor]:
        """loss_attention and loss_hidden; a term of weight 0 is left out."""
        settings, student, teacher, mask = self.objective, views.student, views.teacher, views.mask
        terms: dict[str, Tensor] = {}
        if settings.attention_weight:
            of_layers = [score_mse(student.scores[m], teacher.scores[t], mask) for m, t in self.pairs]
            terms["loss_attention"] = settings.attention_weight * torch.stack(of_layers).sum()
        if settings.hidden_weight:
            of_layers = [
                token_mse(self.lift(student.hidden[m]), teacher.hidden[t], mask)
                for m, t in [(0, 0), *self.pairs]
            ]
            terms["loss_hidden"] = settings.hidden_weight * torch.stack(of_layers).sum()
        return terms
