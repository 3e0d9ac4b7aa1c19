"""TinyBERT's general distillation: attention scores and hidden states, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Optional

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from minilm_lab.models.taps import Needs
from minilm_lab.objectives.base import Objective, Views
from minilm_lab.objectives.distances import score_mse, token_mse
from minilm_lab.objectives.heads import check_equal_attention
from minilm_lab.objectives.layers import as_lists, check_layers, find_pairs, tell
from minilm_lab.objectives.lift import lifted, lifts_between
from minilm_lab.objectives.predictions import check_weights


@dataclass
class TinyBERTObjective(Objective):
    """Mean square difference of attention scores and of hidden states, the sum over paired layers.

    TinyBERT (arXiv 1909.10351, eq. 7 to 9), general distillation: scores before the softmax; hidden states after each
    paired layer and after the embeddings, lifted to the teacher's width by one learned map for all of them (with a
    bias, as in its code; none where the widths are equal). Means are over entries, as there, with one difference: its
    code sets the scores of padded keys to 0 and counts them, and counts padded queries and tokens; here padding is
    left out.
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
        # The map's name, which `resolve` puts numbers for.
        self.layers_told = tell(self.map, self.pairs)

    def check(self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int) -> None:
        """Refuse different numbers of attention heads, and layers that a model does not have."""
        if self.attention_weight:
            why = f"objective.attention_weight={self.attention_weight} compares attention scores head by head"
            check_equal_attention(student, teacher, why, " or objective.attention_weight=0")
        find_pairs(self.map, self.pairs, student, teacher, distilled)

    def resolve(
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int
    ) -> TinyBERTObjective:
        """The same objective with pairs of layers as numbers."""
        pairs = find_pairs(self.map, self.pairs, student, teacher, distilled)
        resolved = replace(self, pairs=as_lists(pairs))
        resolved.layers_told = self.layers_told
        return resolved

    def needs(self) -> tuple[Needs, Needs]:
        """Scores and hidden states of the paired layers, and the embeddings."""
        assert self.pairs is not None, "resolve first"
        none: frozenset[int] = frozenset()

        def one(layers: frozenset[int]) -> Needs:
            return Needs(
                scores=layers if self.attention_weight else none,
                hidden=layers | {0} if self.hidden_weight else none,
            )

        ours, theirs = zip(*self.pairs, strict=True)
        return one(frozenset(ours)), one(frozenset(theirs))

    def lifts(self, student: PretrainedConfig, teacher: PretrainedConfig) -> nn.ModuleDict:
        """The map "hidden", where the widths differ and hidden states count."""
        if not self.hidden_weight:
            return nn.ModuleDict()
        return lifts_between("hidden", int(student.hidden_size), int(teacher.hidden_size), bias=True)

    def losses(self, views: Views) -> dict[str, Tensor]:
        """loss_attention and loss_hidden; a term of weight 0 is left out."""
        assert self.pairs is not None, "resolve first"
        student, teacher, mask = views.student, views.teacher, views.mask
        terms: dict[str, Tensor] = {}
        if self.attention_weight:
            of_layers = [score_mse(student.scores[m], teacher.scores[t], mask) for m, t in self.pairs]
            terms["loss_attention"] = self.attention_weight * torch.stack(of_layers).sum()
        if self.hidden_weight:
            of_layers = [
                token_mse(lifted(student.hidden[m], "hidden", views.lifts), teacher.hidden[t], mask)
                for m, t in [[0, 0], *self.pairs]
            ]
            terms["loss_hidden"] = self.hidden_weight * torch.stack(of_layers).sum()
        return terms

    def identity(self) -> dict[str, Any]:
        """The settings of a resolved objective; the map is told by its pairs."""
        return {name: value for name, value in super().identity().items() if name != "map"}

    def label(self) -> str:
        """tinybert and, if they are not uniform, the layers."""
        return "tinybert" if self.layers_told == "uniform" else f"tinybert-{self.layers_told}"
