"""The relation objectives: MiniLM's attention + value relations and MiniLMv2's any pairs, any heads."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd
from typing import Optional

from torch import Tensor
from transformers import PretrainedConfig

from minilm_lab.errors import LabError, nearest
from minilm_lab.models.families import family_of
from minilm_lab.models.stopping import Projections
from minilm_lab.objectives.base import Objective
from minilm_lab.relations import relation_kls

PAIRS = tuple(left + right for left in "qkv" for right in "qkv")


@dataclass
class RelationObjective(Objective):
    """KL between teacher and student relations of the distilled layer, one term a pair of projections.

    MiniLM (arXiv 2002.10957, eq. 6, 9 and 10): relations [qk, vv], as many heads as the attention has.
    MiniLMv2 (arXiv 2012.15828): relations [qq, kk, vv], any number of relation heads.
    """

    relations: list[str] = field(default_factory=lambda: ["qq", "kk", "vv"])
    """Pairs of query (q), key (k), value (v): qq, kk, vv, qk, qv, …"""
    heads: Optional[int] = 48
    """Relation heads; must divide both hidden sizes. null = the attention heads of both models (MiniLM)."""
    weights: Optional[list[float]] = None
    """Weight of each relation; null = all 1."""

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
        if self.heads is not None and self.heads < 1:
            raise LabError(f"objective.heads={self.heads} must be at least 1")

    def check(self, student: PretrainedConfig, teacher: PretrainedConfig) -> None:
        """Refuse relation heads that do not divide a hidden size, and attention that is not QKᵀ/√d."""
        if self.heads is None and student.num_attention_heads != teacher.num_attention_heads:
            raise LabError(
                f"objective.heads=null uses the attention heads, of which the student has "
                f"{student.num_attention_heads} and the teacher {teacher.num_attention_heads}; "
                f"set student.heads={teacher.num_attention_heads}, or give objective.heads"
            )
        common = gcd(student.hidden_size, teacher.hidden_size)
        heads = self.relation_heads(teacher)
        if common % heads:
            fitting = [h for h in range(1, common + 1) if common % h == 0]
            raise LabError(
                f"objective.heads={heads} must divide the hidden sizes of teacher ({teacher.hidden_size}) "
                f"and student ({student.hidden_size}); these do: {fitting}"
            )
        # With a position term in the scores (MPNet) softmax(QKᵀ/√d) is not what the model attends with:
        # the objective that claims to match attention distributions must not pretend so.
        if self.heads is None and "qk" in self.relations and not family_of(teacher).plain_scores:
            raise LabError(
                f"objective=minilm matches attention distributions, but a '{teacher.model_type}' teacher adds a "
                "position term to QKᵀ/√d; use objective=minilmv2"
            )

    def relation_heads(self, teacher: PretrainedConfig) -> int:
        """The number of relation heads for this teacher."""
        return int(teacher.num_attention_heads) if self.heads is None else self.heads

    def losses(
        self, student: Projections, teacher: Projections, mask: Tensor | None, backend: str
    ) -> dict[str, Tensor]:
        """One term a relation, named loss_qq, loss_kk, …"""
        assert self.heads is not None, "resolve(teacher) first"
        pairs = [(_pick(student, pair), _pick(teacher, pair), self.heads) for pair in self.relations]
        values = relation_kls(pairs, mask=mask, backend=backend)
        weights = self.weights or [1.0] * len(self.relations)
        return {
            f"loss_{pair}": weight * value
            for pair, weight, value in zip(self.relations, weights, values, strict=True)
        }

    def label(self) -> str:
        """The pairs and the number of relation heads."""
        return f"{'.'.join(self.relations)}-{self.heads or 'attention'}"

    def resolve(self, teacher: PretrainedConfig) -> RelationObjective:
        """The same objective with the number of heads as a number."""
        return RelationObjective(list(self.relations), self.relation_heads(teacher), self.weights)


def _pick(projections: Projections, pair: str) -> tuple[Tensor, Tensor]:
    by_letter = dict(zip("qkv", projections, strict=True))
    return by_letter[pair[0]], by_letter[pair[1]]
