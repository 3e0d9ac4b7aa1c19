"""Several objectives at once: their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig

from minilm_lab.config import from_values, locate
from minilm_lab.errors import LabError, nearest
from minilm_lab.models.taps import Needs
from minilm_lab.objectives.base import Objective, Views


@dataclass
class SumObjective(Objective):
    """The weighted sum of the terms' losses, on one forward pass of each model.

    All terms see the same text: if one of them masks tokens, the others compare what the models make of the masked
    text.
    """

    terms: dict[str, Any] = field(default_factory=dict)
    """Objectives by name, each as a file of the group gives it, `_target_` included."""
    weights: dict[str, float] = field(default_factory=dict)
    """Weight of a term; 1 if it is not named here."""

    def __post_init__(self) -> None:
        self.terms = {name: _objective(name, term) for name, term in self.terms.items()}
        for name in self.weights:
            if name not in self.terms:
                raise LabError(
                    f"objective.weights.{name}: no such term.{nearest(name, self.terms)} "
                    f"The terms are: {', '.join(self.terms) or 'none'}"
                )
        shares = {name: term.masked_share for name, term in self.terms.items() if term.masked_share}
        if len(set(shares.values())) > 1:
            told = ", ".join(f"objective.terms.{name}.mask_probability={p}" for name, p in shares.items())
            raise LabError(f"{told}: the terms see the same text, so these must be equal")

    def check(self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int) -> None:
        """As of each term; LabError if there is none."""
        if not self.terms:
            raise LabError(
                "objective=sum has no terms; give them as a list, such as objective=[minilmv2,mlm_kd]"
            )
        for name, term in self.terms.items():
            try:
                term.check(student, teacher, distilled)
            except LabError as error:
                raise LabError(f"objective.terms.{name}: {error}") from error

    def resolve(self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int) -> SumObjective:
        """The same sum with every term resolved."""
        return replace(
            self, terms={name: term.resolve(student, teacher, distilled) for name, term in self.terms.items()}
        )

    def needs(self) -> tuple[Needs, Needs]:
        """What any of the terms reads."""
        ours, theirs = Needs(), Needs()
        for term in self.terms.values():
            of_student, of_teacher = term.needs()
            ours, theirs = ours | of_student, theirs | of_teacher
        return ours, theirs

    @property
    def masked_share(self) -> float:
        """That of the terms that mask."""
        return max((term.masked_share for term in self.terms.values()), default=0.0)

    def lifts(self, student: PretrainedConfig, teacher: PretrainedConfig) -> nn.ModuleDict:
        """Of each term that has any, under its name."""
        found = {name: term.lifts(student, teacher) for name, term in self.terms.items()}
        return nn.ModuleDict({name: lifts for name, lifts in found.items() if len(lifts)})

    def losses(self, views: Views) -> dict[str, Tensor]:
        """The terms' losses as term/loss."""
        losses: dict[str, Tensor] = {}
        for name, term in self.terms.items():
            lifts: Any = views.lifts[name] if name in views.lifts else nn.ModuleDict()
            weight = self.weights.get(name, 1.0)
            for loss, value in term.losses(replace(views, lifts=lifts)).items():
                losses[f"{name}/{loss}"] = weight * value
        return losses

    def identity(self) -> dict[str, Any]:
        """The terms' identities and all weights."""
        return {
            "kind": type(self).__name__,
            "terms": {name: term.identity() for name, term in self.terms.items()},
            "weights": {name: self.weights.get(name, 1.0) for name in self.terms},
        }

    def label(self) -> str:
        """The terms' labels, joined by "+"."""
        return "+".join(term.label() for term in self.terms.values())


def _objective(name: str, term: Any) -> Objective:
    """The objective that a term describes, or is."""
    key = f"objective.terms.{name}"
    # Lifts of a term are an entry of a ModuleDict under its name.
    if not name.isidentifier() or hasattr(nn.ModuleDict, name):
        raise LabError(f"{key}: name a term by a word of letters, digits and _, such as minilm")
    if isinstance(term, Mapping):
        values = dict(term)
        target = values.pop("_target_", None)
        if target is None:
            raise LabError(f"{key} has no _target_; write +objective@{key}=<a file of conf/objective>")
        term = from_values(locate(str(target), key), values, key)
    if not isinstance(term, Objective):
        raise LabError(f"{key} is not an objective (got {term!r})")
    if not term.trains:
        raise LabError(f"{key}: {term.label()} trains nothing, so it cannot be a term of a sum")
    return term
