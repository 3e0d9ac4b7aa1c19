"""The relation objectives: MiniLM's attention + value relations and MiniLMv2's any pairs, any heads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Optional

import torch
from torch import Tensor

from minilm_lab.errors import LabError, nearest
from minilm_lab.models.families import family_of, projection_widths
from minilm_lab.models.layer_map import Pairs
from minilm_lab.models.taps import Needs, Projections
from minilm_lab.objectives.base import Loss, Objective, Views
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

if TYPE_CHECKING:
    from transformers import PretrainedConfig

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

    Loss, of teacher ᵗ and student ˢ:

        L = Σ_ab w_ab · mean over heads h and real queries i of KL( Rᵗ_ab[h, i] ‖ Rˢ_ab[h, i] )
        R_ab = softmax(a bᵀ / √d) for ab among qq, kk, vv, qk, …, each split into heads of width d

    | of | reads | shape |
    |---|---|---|
    | student, teacher | queries, keys, values of the paired layers | (B, L, D) each |
    | student, teacher | attention scores, where heads=null and a family adds to QKᵀ/√d | (B, A, L, L) |

    Needs: Heads that divide both widths; equal attention heads with heads=null.

    When to use it: The task-agnostic students of the papers. The last layer but one teaches most for fine-tuning, the last what is used without it.

    Example:

        minilm-lab distill objective=minilmv2 objective.heads=48 teacher.layer=-2
    """

    reads_groups: ClassVar[bool] = True
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

    def _bind(
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int, grouped: str
    ) -> Loss:
        if self.heads is None:
            why = "objective.heads=null uses the attention heads"
            check_equal_attention(student, teacher, why, ", or give objective.heads")
        heads = relation_heads(self.heads, teacher)
        check_dividing(heads, projection_width(student), projection_width(teacher))
        pairs = find_pairs(self.map, self.pairs, student, teacher, distilled)
        causal = is_causal(student, teacher)
        plain = family_of(student).plain_scores and family_of(teacher).plain_scores
        true_scores = self.heads is None and "qk" in self.relations and not plain
        if true_scores:
            check_windows(pairs, student, teacher)
        if grouped == "group":
            for model in (student, teacher):
                self._check_groups(heads, model)
        # The usual pair of last layers and plain scores go without saying.
        usual = pairs == [(int(student.num_hidden_layers), distilled)]
        identity = self.settings("map", "pairs", heads=heads)
        identity |= ({} if usual else {"pairs": as_lists(pairs)}) | (
            {"scores": "true"} if true_scores else {}
        )
        label = f"{'.'.join(self.relations)}-{heads}{tell(self.map, self.pairs, usual)}"
        return RelationLoss(self, pairs, heads, causal, true_scores, identity, label)

    def _check_groups(self, heads: int, model: PretrainedConfig) -> None:
        """Refuse what keys and values of their own, narrower width cannot be compared by."""
        widths = dict(zip("qkv", projection_widths(model), strict=True))
        for relation in self.relations:
            left, right = relation[0], relation[1]
            if widths[left] != widths[right]:
                raise LabError(
                    f"objective.relations has '{relation}', which are {widths[left]} and {widths[right]} wide with "
                    "teacher.grouped=group; use teacher.grouped=repeat, or relations [qq, kk, vv]"
                )
            if widths[left] % heads:
                raise LabError(
                    f"objective.heads={heads} must divide {widths[left]}, the width of {left} with "
                    "teacher.grouped=group"
                )


class RelationLoss(Loss):
    """Reads Q, K and V of the paired layers; their scores where those are not QKᵀ/√d."""

    def __init__(
        self,
        objective: RelationObjective,
        pairs: Pairs,
        heads: int,
        causal: bool,
        true_scores: bool,
        identity: dict[str, Any],
        label: str,
    ) -> None:
        of_scores = ["qk"] if true_scores else []
        of_projections = [pair for pair in objective.relations if pair not in of_scores]
        ours, theirs = (
            Needs(
                projections=frozenset(layers if of_projections else ()),
                scores=frozenset(layers if of_scores else ()),
            )
            for layers in zip(*pairs, strict=True)
        )
        super().__init__((ours, theirs), identity, label)
        self.of_scores, self.of_projections = of_scores, of_projections
        weights = objective.weights or [1.0] * len(objective.relations)
        self.weights = dict(zip(objective.relations, weights, strict=True))
        self.pairs, self.heads, self.causal = pairs, heads, causal

    def forward(self, views: Views) -> dict[str, Tensor]:
        """One term a relation, named loss_qq, loss_kk, …: the mean over the pairs of layers."""
        student, teacher = views.student, views.teacher
        means: dict[str, Tensor] = {}
        if self.of_projections:
            # One call: on a GPU one launch for all relations of all layers.
            sides = [
                (_pick(student.projections[m], r), _pick(teacher.projections[t], r), self.heads)
                for r in self.of_projections
                for m, t in self.pairs
            ]
            values = relation_kls(sides, mask=views.mask, causal=self.causal, backend=views.backend)
            by_relation = values.view(-1, len(self.pairs)).mean(dim=1)
            means = dict(zip(self.of_projections, by_relation, strict=True))
        for relation in self.of_scores:
            scores = [(student.scores[m], teacher.scores[t]) for m, t in self.pairs]
            means[relation] = torch.stack([attention_kl(s, t, views.mask) for s, t in scores]).mean()
        return {f"loss_{relation}": weight * means[relation] for relation, weight in self.weights.items()}


def _pick(projections: Projections, pair: str) -> tuple[Tensor, Tensor]:
    by_letter = dict(zip("qkv", projections, strict=True))
    return by_letter[pair[0]], by_letter[pair[1]]
