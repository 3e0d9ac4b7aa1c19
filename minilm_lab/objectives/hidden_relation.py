"""Relations between hidden states: what MiniLM's authors tried and found unstable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from torch import Tensor

from minilm_lab.models.layer_map import Pairs
from minilm_lab.models.taps import Needs
from minilm_lab.objectives.base import Loss, Objective, Views
from minilm_lab.objectives.heads import check_dividing, check_heads, is_causal, relation_heads
from minilm_lab.objectives.layers import as_lists, check_layers, find_pairs, tell
from minilm_lab.relations import relation_kls

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass
class HiddenRelationObjective(Objective):
    """KL between the relations (H, H) of the hidden states that paired layers put out; the mean over the pairs.

    MiniLM (arXiv 2002.10957, section 4.4): "unstable for different teacher models". The paper gives neither the
    number of heads nor what it was combined with; with attention distributions it is
    objective=[minilm,hidden_relation] objective.terms.minilm.relations=[qk].

    Loss, of teacher ᵗ and student ˢ:

        L = mean over heads h and real queries i of KL( Rᵗ[h, i] ‖ Rˢ[h, i] ),  R = softmax(H Hᵀ / √d)

    | of | reads | shape |
    |---|---|---|
    | student, teacher | hidden states of the paired layers | (B, L, D) |

    Needs: A number of heads that divides both widths.

    When to use it: To train the whole last layer, which relations of Q, K and V do not.

    Example:

        minilm-lab distill objective=hidden_relation objective.heads=12
    """

    heads: Optional[int] = None
    """Relation heads; must divide both hidden sizes. null = as many as the teacher has attention heads."""
    map: str = "last"
    """Which layers are compared: last, uniform, top."""
    pairs: Optional[list[list[int]]] = None
    """[student layer, teacher layer] pairs, from 1, in place of the map; null = those of the map."""

    def __post_init__(self) -> None:
        check_heads(self.heads)
        check_layers(self.map, self.pairs)

    def _bind(
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int, grouped: str
    ) -> Loss:
        heads = relation_heads(self.heads, teacher)
        check_dividing(heads, int(student.hidden_size), int(teacher.hidden_size))
        pairs = find_pairs(self.map, self.pairs, student, teacher, distilled)
        causal = is_causal(student, teacher)
        layers = tell(self.map, self.pairs, usual=pairs == [(int(student.num_hidden_layers), distilled)])
        identity = self.settings("map", heads=heads, pairs=as_lists(pairs))
        return HiddenRelationLoss(pairs, heads, causal, identity, f"hh-{heads}{layers}")


class HiddenRelationLoss(Loss):
    """Reads the hidden states after the paired layers."""

    def __init__(self, pairs: Pairs, heads: int, causal: bool, identity: dict[str, Any], label: str) -> None:
        ours, theirs = zip(*pairs, strict=True)
        super().__init__((Needs(hidden=frozenset(ours)), Needs(hidden=frozenset(theirs))), identity, label)
        self.pairs, self.heads, self.causal = pairs, heads, causal

    def forward(self, views: Views) -> dict[str, Tensor]:
        """loss_hh."""
        sides = [
            ((views.student.hidden[m],) * 2, (views.teacher.hidden[t],) * 2, self.heads)
            for m, t in self.pairs
        ]
        values = relation_kls(sides, mask=views.mask, causal=self.causal, backend=views.backend)
        return {"loss_hh": values.mean()}
