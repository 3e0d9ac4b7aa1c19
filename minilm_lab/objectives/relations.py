"""The relation objectives: MiniLM's attention + value relations and MiniLMv2's any pairs, any heads."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Optional

import torch
from torch import Tensor
from transformers import PretrainedConfig

from minilm_lab.errors import LabError, nearest
from minilm_lab.models.families import family_of
from minilm_lab.models.layer_map import layer_pairs
from minilm_lab.models.taps import Needs, Projections
from minilm_lab.objectives.base import Objective, Views
from minilm_lab.objectives.heads import (
    check_dividing,
    check_equal_attention,
    check_heads,
    check_windows,
    is_causal,
    projection_width,
    relation_heads,
)
from minilm_lab.objectives.layers import as_lists, check_layers, find_pairs, tell
from minilm_lab.relations import attention_kl, relation_kls

PAIRS = tuple(left + right for left in "qkv" for right in "qkv")


@dataclass
class RelationObjective(Objective):
    """KL between teacher and student relations of paired layers, one term a pair of projections.

    MiniLM (arXiv 2002.10957, eq. 6, 9 and 10): relations [qk, vv], as many heads as the attention has.
    MiniLMv2 (arXiv 2012.15828, section 3): relations [qq, kk, vv], any number of relation heads.

    Over several pairs of layers (layer-to-layer, MiniLM's Table 7) a term is the *mean* over the pairs, so that its
    weight does not grow with the student's depth. The papers do not say whether they sum or average.

    "Attention distributions" are what the models really attend with: where a family adds to QKᵀ/√d (MPNet's relative
    bias, DeBERTa's disentangled terms) and `heads` is null, the relation qk is that of both models' true scores.
    With a number of heads it is softmax(QKᵀ/√d), as for every other pair.
    """

    relations: list[str] = field(default_factory=lambda: ["qq", "kk", "vv"])
    """Pairs of query (q), key (k), value (v): qq, kk, vv, qk, qv, …"""
    heads: Optional[int] = 48
    """Relation heads; must divide both hidden sizes. null = the attention heads of both models (MiniLM)."""
    weights: Optional[list[float]] = None
    """Weight of each relation; null = all 1."""
    map: str = "last"
    """Which layers are compared: last, uniform, top (see minilm_lab.models.layer_map)."""
    pairs: Optional[list[list[int]]] = None
    """[student layer, teacher layer] pairs, from 1, in place of the map; null = those of the map."""

    def __post_init__(self) -> None:
        if not self.relations:
            raise LabError(f"objective.relations=[]: give at least one of {', '.join(PAIRS)}")
        for pair in self.relations:
            if pair not in PAIRS:
                raise LabError(
                    f"objective.relations has '{pair}'.{nearest(pair, PAIRS)} Allowed are {', '.join(PAIRS)}"
                )
        if len(set(self.relations)) != len(self.relations):
            raise LabError(f"objective.relations={self.relations} names a pair twice; use objective.weights")
        if self.weights is not None and len(self.weights) != len(self.relations):
            raise LabError(
                f"objective.weights={self.weights} must have one weight for each of {self.relations}"
            )
        check_heads(self.heads)
        check_layers(self.map, self.pairs)
        # What `resolve` learns of the models.
        usual = self.map == "last" and self.pairs is None
        self.layers_told = "" if usual else tell(self.map, self.pairs)
        self.true_scores = False
        self.causal = False

    def check(self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int) -> None:
        """Refuse relation heads that do not divide a hidden size, and layers that a model does not have."""
        if self.heads is None:
            why = "objective.heads=null uses the attention heads"
            check_equal_attention(student, teacher, why, ", or give objective.heads")
        check_dividing(
            relation_heads(self.heads, teacher), projection_width(student), projection_width(teacher)
        )
        pairs = find_pairs(self.map, self.pairs, student, teacher, distilled)
        is_causal(student, teacher)
        if self._means_true_scores(student, teacher):
            check_windows(pairs, student, teacher)

    def resolve(
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int
    ) -> RelationObjective:
        """The same objective with heads and pairs of layers as numbers."""
        pairs = find_pairs(self.map, self.pairs, student, teacher, distilled)
        resolved = replace(self, heads=relation_heads(self.heads, teacher), pairs=as_lists(pairs))
        usual = pairs == layer_pairs("last", int(student.num_hidden_layers), distilled)
        resolved.layers_told = "" if usual else self.layers_told
        resolved.true_scores = self.true_scores or self._means_true_scores(student, teacher)
        resolved.causal = is_causal(student, teacher)
        return resolved

    def needs(self) -> tuple[Needs, Needs]:
        """Q, K and V of the paired layers; their scores where those are not QKᵀ/√d."""
        of_scores = ["qk"] if self.true_scores else []
        projections = set(self.relations) - set(of_scores)

        def one(layers: frozenset[int]) -> Needs:
            none: frozenset[int] = frozenset()
            return Needs(layers if projections else none, layers if of_scores else none)

        ours, theirs = zip(*self.layers(), strict=True)
        return one(frozenset(ours)), one(frozenset(theirs))

    def losses(self, views: Views) -> dict[str, Tensor]:
        """One term a relation, named loss_qq, loss_kk, …: the mean over the pairs of layers."""
        assert self.heads is not None, "resolve first"
        layers = self.layers()
        of_projections = [r for r in self.relations if not (self.true_scores and r == "qk")]
        means: dict[str, Tensor] = {}
        if of_projections:
            # One call: on a GPU one launch for all relations of all layers.
            sides = [
                (_pick(views.student.projections[m], r), _pick(views.teacher.projections[t], r), self.heads)
                for r in of_projections
                for m, t in layers
            ]
            values = relation_kls(sides, mask=views.mask, causal=self.causal, backend=views.backend)
            means = dict(zip(of_projections, values.view(-1, len(layers)).mean(dim=1), strict=True))
        if self.true_scores:
            scores = [(views.student.scores[m], views.teacher.scores[t]) for m, t in layers]
            means["qk"] = torch.stack([attention_kl(s, t, views.mask) for s, t in scores]).mean()
        weights = self.weights or [1.0] * len(self.relations)
        return {f"loss_{r}": w * means[r] for r, w in zip(self.relations, weights, strict=True)}

    def identity(self) -> dict[str, Any]:
        """The settings of a resolved objective that decide a result; the map is told by its pairs.

        The usual single pair is left out, so that runs from before there were maps are still found.
        """
        told: dict[str, Any] = {
            "kind": type(self).__name__,
            "relations": self.relations,
            "heads": self.heads,
            "weights": self.weights,
        }
        if self.layers_told:
            told["pairs"] = self.pairs
        if self.true_scores:
            told["scores"] = "true"
        return told

    def label(self) -> str:
        """The relations, the number of relation heads and, if they are not the usual one, the layers."""
        layers = f"-{self.layers_told}" if self.layers_told else ""
        return f"{'.'.join(self.relations)}-{self.heads or 'attention'}{layers}"

    def _means_true_scores(self, student: PretrainedConfig, teacher: PretrainedConfig) -> bool:
        plain = family_of(student).plain_scores and family_of(teacher).plain_scores
        return self.heads is None and "qk" in self.relations and not plain

    def layers(self) -> list[tuple[int, int]]:
        """The (student layer, teacher layer) pairs of a resolved objective."""
        assert self.pairs is not None, "resolve first"
        return [(ours, theirs) for ours, theirs in self.pairs]


def _pick(projections: Projections, pair: str) -> tuple[Tensor, Tensor]:
    by_letter = dict(zip("qkv", projections, strict=True))
    return by_letter[pair[0]], by_letter[pair[1]]
