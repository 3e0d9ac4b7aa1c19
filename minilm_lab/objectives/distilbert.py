"""DistilBERT's three losses: soft labels, masked language modelling, direction of the last hidden states."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor
from transformers import PretrainedConfig

from minilm_lab.errors import LabError
from minilm_lab.models.taps import Needs
from minilm_lab.objectives.base import Objective, Views
from minilm_lab.objectives.distances import token_cosine
from minilm_lab.objectives.predictions import (
    check_masked_lm,
    check_share,
    check_temperature,
    check_vocabulary,
    check_weights,
    soft_labels,
    true_tokens,
)


@dataclass
class DistilBERTObjective(Objective):
    """5 · T² KL(teacher ‖ student) + 2 · masked-LM cross-entropy + 1 − cosine of last hidden states.

    DistilBERT (arXiv 1910.01108, section 3); weights and T = 2 are those of its code. There the soft labels are of
    all tokens, here of the masked ones: over every token both heads' vocabulary-wide products would cost several
    times the rest of the step. Hidden states are compared at every real token, as there. Its student starts from the
    teacher's layers: student.init.layers=uniform student.init.embeddings=teacher.
    """

    temperature: float = 2.0
    """T: divides the logits of both models."""
    soft_weight: float = 5.0
    """Weight of the teacher's predictions at the masked positions."""
    mlm_weight: float = 2.0
    """Weight of the true tokens there."""
    cosine_weight: float = 1.0
    """Weight of 1 − cosine between the last hidden states; they must be of one width."""
    mask_probability: float = 0.15
    """Share of the tokens that are hidden."""

    def __post_init__(self) -> None:
        check_share(self.mask_probability)
        check_temperature(self.temperature)
        check_weights(
            soft_weight=self.soft_weight, mlm_weight=self.mlm_weight, cosine_weight=self.cosine_weight
        )
        # What `resolve` learns of the models: the student's depth and the distilled layer.
        self.layers: tuple[int, int] | None = None

    def check(self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int) -> None:
        """Refuse models without a masked-LM head, or of different vocabularies or, with a cosine loss, widths."""
        check_masked_lm(student, teacher)
        check_vocabulary(student, teacher)
        if self.cosine_weight and student.hidden_size != teacher.hidden_size:
            raise LabError(
                f"objective.cosine_weight={self.cosine_weight} compares hidden states, which needs one width: the "
                f"student has {student.hidden_size}, the teacher {teacher.hidden_size}; set "
                f"student.hidden_size={teacher.hidden_size} or objective.cosine_weight=0"
            )

    def resolve(
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int
    ) -> DistilBERTObjective:
        """The same objective, knowing which layers are last."""
        resolved = replace(self)
        resolved.layers = (int(student.num_hidden_layers), distilled)
        return resolved

    def needs(self) -> tuple[Needs, Needs]:
        """The predictions and the last hidden states of both models."""
        ours, theirs = self._last()
        return (
            Needs(logits=bool(self.soft_weight or self.mlm_weight), hidden=ours),
            Needs(logits=bool(self.soft_weight), hidden=theirs),
        )

    @property
    def masked_share(self) -> float:
        """mask_probability."""
        return self.mask_probability

    def losses(self, views: Views) -> dict[str, Tensor]:
        """loss_soft, loss_mlm and loss_cosine; a term of weight 0 is left out."""
        student, teacher = views.student, views.teacher
        terms: dict[str, Tensor] = {}
        if self.soft_weight:
            assert student.logits is not None and teacher.logits is not None
            terms["loss_soft"] = self.soft_weight * soft_labels(
                student.logits, teacher.logits, self.temperature
            )
        if self.mlm_weight:
            assert student.logits is not None and views.labels is not None
            terms["loss_mlm"] = self.mlm_weight * true_tokens(student.logits, views.labels)
        if self.cosine_weight:
            assert self.layers is not None, "resolve first"
            ours, theirs = student.hidden[self.layers[0]], teacher.hidden[self.layers[1]]
            terms["loss_cosine"] = self.cosine_weight * token_cosine(ours, theirs, views.mask)
        return terms

    def label(self) -> str:
        """distilbert."""
        return "distilbert"

    def _last(self) -> tuple[frozenset[int], frozenset[int]]:
        if not self.cosine_weight:
            return frozenset(), frozenset()
        assert self.layers is not None, "resolve first"
        return frozenset({self.layers[0]}), frozenset({self.layers[1]})
