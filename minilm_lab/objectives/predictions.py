"""Losses of masked-LM predictions: logits at the masked positions in, a float32 scalar out.

A batch without a masked position costs 0, and backward still runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional as F

from minilm_lab.errors import LabError
from minilm_lab.models.families import family_of
from minilm_lab.objectives.distances import widened

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def soft_labels(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student) of the distributions at temperature T, mean over positions.

    Hinton et al. (arXiv 1503.02531, section 2): T² keeps the gradient's size whatever T is.

    student, teacher: (positions, vocabulary).
    """
    log_q = (widened(student) / temperature).log_softmax(dim=1)
    log_p = (widened(teacher) / temperature).log_softmax(dim=1)
    divergence = F.kl_div(log_q, log_p, reduction="sum", log_target=True)
    return temperature**2 * divergence / max(len(student), 1)


def true_tokens(student: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with the true tokens, mean over positions: BERT's masked-LM loss (arXiv 1810.04805, 3.1).

    student: (positions, vocabulary); labels: (positions,) int64.
    """
    return F.cross_entropy(widened(student), labels, reduction="sum") / max(len(labels), 1)


def check_share(probability: float) -> None:
    """LabError unless `objective.mask_probability` is a share."""
    if not 0 < probability < 1:
        raise LabError(
            f"objective.mask_probability={probability} is the share of the tokens that is hidden: give a number "
            "between 0 and 1, such as 0.15"
        )


def check_temperature(temperature: float) -> None:
    """LabError unless `objective.temperature` can divide logits."""
    if not temperature > 0:
        raise LabError(f"objective.temperature={temperature} must be more than 0")


def check_weights(**weights: float) -> None:
    """LabError unless no weight is negative and one at least is more than 0."""
    for name, weight in weights.items():
        if not weight >= 0:
            raise LabError(f"objective.{name}={weight} must be 0 or more")
    if not any(weights.values()):
        raise LabError(f"objective: one of {', '.join(weights)} must be more than 0")


def check_masked_lm(*models: PretrainedConfig) -> None:
    """LabError if one of the models predicts the next token, not a hidden one."""
    for config in models:
        if family_of(config).causal:
            raise LabError(
                f"a '{config.model_type}' model predicts the next token and has no masked-LM head, which this objective "
                "reads; use objective=minilmv2 or another objective over layers"
            )


def check_vocabulary(student: PretrainedConfig, teacher: PretrainedConfig) -> None:
    """LabError unless both models predict the same tokens."""
    if student.vocab_size != teacher.vocab_size:
        raise LabError(
            f"the objective compares predictions of tokens, but the student has {student.vocab_size} and the teacher "
            f"{teacher.vocab_size}: both need the teacher's vocabulary"
        )
