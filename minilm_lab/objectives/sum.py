"""Several objectives at once: their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from minilm_lab.config import from_values, locate
from minilm_lab.errors import LabError, nearest
from minilm_lab.models.taps import Needs
from minilm_lab.objectives.base import Loss, Objective, Views
from minilm_lab.objectives.lm import LMLoss

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass
class SumObjective(Objective):
    """The weighted sum of the terms' losses, on one forward pass of each model.

    All terms see the same text: if one of them masks tokens, the others compare what the models make of the masked
    text.

    Loss, of teacher ᵗ and student ˢ:

        L = Σ_k w_k · L_k

    | of | reads | shape |
    |---|---|---|
    | student, teacher | what any of the terms reads | as there |

    Needs: Terms that agree on the share of masked tokens.

    When to use it: Where one objective alone leaves something out, such as the last block. Weights matter: measure them.

    Example:

        minilm-lab distill 'objective=[minilmv2,embedding]' objective.weights.embedding=10
    """

    reads_groups: ClassVar[bool] = True
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

    def _bind(
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int, grouped: str
    ) -> Loss:
        if not self.terms:
            raise LabError(
                "objective=sum has no terms; give them as a list, such as objective=[minilmv2,mlm_kd]"
            )
        losses = {}
        for name, term in self.terms.items():
            try:
                losses[name] = term.bind(student, teacher, distilled, grouped=grouped)
            except LabError as error:
                raise LabError(f"objective.terms.{name}: {error}") from error
        shares = {name: loss.masked_share for name, loss in losses.items() if loss.masked_share}
        if len(set(shares.values())) > 1:
            settings = ", ".join(f"objective.terms.{name}.mask_probability={p}" for name, p in shares.items())
            raise LabError(f"{settings}: the terms see the same text, so these must be equal")
        for name, loss in losses.items():
            if isinstance(loss, LMLoss) and any(other.on_policy for other in losses.values()):
                raise LabError(
                    f"objective.terms.{name} learns the text's own words, which the student's texts (objective.on_policy) do not have"
                )
        weights = {name: self.weights.get(name, 1.0) for name in losses}
        return SumLoss(losses, weights, self.settings(), max(shares.values(), default=0.0))


class SumLoss(Loss):
    """Reads what any of the terms reads."""

    def __init__(
        self, terms: dict[str, Loss], weights: dict[str, float], settings: dict[str, Any], masked_share: float
    ) -> None:
        ours, theirs = Needs(), Needs()
        for loss in terms.values():
            ours, theirs = ours | loss.reads[0], theirs | loss.reads[1]
        identity = settings | {
            "terms": {name: loss.identity() for name, loss in terms.items()},
            "weights": weights,
        }
        label = "+".join(loss.label() for loss in terms.values())
        super().__init__((ours, theirs), identity, label, masked_share)
        self.terms, self.weights = nn.ModuleDict(terms), weights
        self.on_policy = next((loss.on_policy for loss in terms.values() if loss.on_policy), None)

    def forward(self, views: Views) -> dict[str, Tensor]:
        """The terms' losses as term/loss."""
        return {
            f"{name}/{loss}": self.weights[name] * value
            for name, term in self.terms.items()
            for loss, value in term(views).items()
        }


def _objective(name: str, term: Any) -> Objective:
    """The objective that a term describes, or is."""
    key = f"objective.terms.{name}"
    # The terms' losses are entries of a ModuleDict under their names.
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
        raise LabError(f"{key}: it trains nothing, so it cannot be a term of a sum")
    return term
