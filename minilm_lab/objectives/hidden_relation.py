"""Relations between hidden states: what MiniLM's authors tried and found unstable."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Optional

from torch import Tensor
from transformers import PretrainedConfig

from minilm_lab.models.layer_map import layer_pairs
from minilm_lab.models.taps import Needs
from minilm_lab.objectives.base import Objective, Views
from minilm_lab.objectives.heads import check_dividing, check_heads, is_causal, relation_heads
from minilm_lab.objectives.layers import as_lists, check_layers, find_pairs, tell
from minilm_lab.relations import relation_kls


@dataclass
class HiddenRelationObjective(Objective):
    """KL between the relations (H, H) of the hidden states that paired layers put out; the mean over the pairs.

    MiniLM (arXiv 2002.10957, section 4.4): "unstable for different teacher models". The paper gives neither the
    number of heads nor what it was combined with; with attention distributions it is
    objective=[minilm,hidden_relation] objective.terms.minilm.relations=[qk].
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
        # What `resolve` learns of the models.
        self.layers_told = "" if self.map == "last" and self.pairs is None else tell(self.map, self.pairs)
        self.causal = False

    def check(self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int) -> None:
        """Refuse relation heads that do not divide a hidden size, and layers that a model does not have."""
        check_dividing(
            relation_heads(self.heads, teacher), int(student.hidden_size), int(teacher.hidden_size)
        )
        find_pairs(self.map, self.pairs, student, teacher, distilled)
        is_causal(student, teacher)

    def resolve(
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int
    ) -> HiddenRelationObjective:
        """The same objective with heads and pairs of layers as numbers."""
        pairs = find_pairs(self.map, self.pairs, student, teacher, distilled)
        resolved = replace(self, heads=relation_heads(self.heads, teacher), pairs=as_lists(pairs))
        usual = pairs == layer_pairs("last", int(student.num_hidden_layers), distilled)
        resolved.layers_told = "" if usual else self.layers_told
        resolved.causal = is_causal(student, teacher)
        return resolved

    def needs(self) -> tuple[Needs, Needs]:
        """The hidden states after the paired layers."""
        assert self.pairs is not None, "resolve first"
        ours, theirs = zip(*self.pairs, strict=True)
        return Needs(hidden=frozenset(ours)), Needs(hidden=frozenset(theirs))

    def losses(self, views: Views) -> dict[str, Tensor]:
        """loss_hh."""
        assert self.heads is not None and self.pairs is not None, "resolve first"
        sides = [
            ((views.student.hidden[m],) * 2, (views.teacher.hidden[t],) * 2, self.heads)
            for m, t in self.pairs
        ]
        values = relation_kls(sides, mask=views.mask, causal=self.causal, backend=views.backend)
        return {"loss_hh": values.mean()}

    def identity(self) -> dict[str, Any]:
        """The settings of a resolved objective; the map is told by its pairs."""
        return {"kind": type(self).__name__, "heads": self.heads, "pairs": self.pairs}

    def label(self) -> str:
        """hh, the number of relation heads and, if they are not the usual one, the layers."""
        layers = f"-{self.layers_told}" if self.layers_told else ""
        return f"hh-{self.heads or 'attention'}{layers}"
