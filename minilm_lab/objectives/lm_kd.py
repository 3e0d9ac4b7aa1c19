"""LM-KD: the teacher's predictions of the next token as soft labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from torch import Tensor

from minilm_lab.errors import LabError, nearest
from minilm_lab.models.next_token import DIVERGENCES, Head, Top, next_token_loss
from minilm_lab.models.taps import Needs
from minilm_lab.objectives.base import Loss, Objective, OnPolicy, Views
from minilm_lab.objectives.lm import check_causal_lm, next_places
from minilm_lab.objectives.predictions import check_temperature, check_vocabulary, check_weights

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass
class LMKDObjective(Objective):
    """soft_weight · T² D(teacher, student) + hard_weight · cross-entropy, mean over the text's tokens.

    `models/next_token.py` has the divergences: forward and reverse KL, generalised Jensen–Shannon (arXiv 2306.13649) and
    skew KL (arXiv 2402.03898). Logits of all positions are never in memory.

    With `top_k` the teacher is its k likeliest next tokens and one bucket for all others, in float16. Where nothing else of
    the teacher is read, that is kept in the cache (130 bytes a token at k = 32), and a block that comes again, in a later epoch or
    in another student's run, costs no forward pass of the teacher.

    Loss, of teacher ᵗ and student ˢ:

        L = soft_weight · T² · mean_t D( pᵗ_T(· | x_<t), pˢ_T(· | x_<t) ) − hard_weight · mean_t log pˢ(x_t | x_<t)
        p_T = softmax(logits / T)

    | of | reads | shape |
    |---|---|---|
    | student, teacher | logits of the next tokens, in chunks | (B, L, V), never whole |
    | text | the tokens | (B, L) int64 |

    Needs: A causal teacher with its head, and its vocabulary.

    When to use it: Decoders that must go on predicting; in a sum with relations where attention should be kept too.

    Example:

        minilm-lab distill teacher=smollm2_135m student.layers=24 student.depth_ratio=null student.init.layers=uniform student.init.embeddings=teacher objective=lm_kd
    """

    divergence: str = "forward_kl"
    """forward_kl | reverse_kl | jsd | skew_forward_kl | skew_reverse_kl."""
    mix: float = 0.5
    """Share of the teacher in jsd's mixture; of the first distribution in that of skew KL (its paper: 0.1)."""
    temperature: float = 1.0
    """T: divides the logits of both models."""
    soft_weight: float = 1.0
    """Weight of the teacher's predictions."""
    hard_weight: float = 0.0
    """Weight of the text's own next tokens."""
    top_k: Optional[int] = None
    """How many of the teacher's likeliest next tokens are read; null = its whole distribution."""
    on_policy: float = 0.0
    """Share of the steps on texts that the student writes itself (GKD, arXiv 2306.13649, its lambda): the teacher judges what
    the student would say, and the text's own next tokens play no part. What is written is a function of the student's
    weights, `seed` and the number of the sample."""
    prompt: int = 32
    """Of these steps: tokens of a block that the student goes on from, to the block's end."""

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_weights(soft_weight=self.soft_weight, hard_weight=self.hard_weight)
        if self.divergence not in DIVERGENCES:
            raise LabError(
                f"objective.divergence={self.divergence}: no such divergence.{nearest(self.divergence, DIVERGENCES)} "
                f"There are: {', '.join(DIVERGENCES)}"
            )
        if not 0 < self.mix < 1:
            raise LabError(
                f"objective.mix={self.mix} must be between 0 and 1; at the ends jsd is 0 and skew KL is plain KL: use "
                "objective.divergence=forward_kl or reverse_kl"
            )

        if not 0 <= self.on_policy <= 1:
            raise LabError(
                f"objective.on_policy={self.on_policy} must be between 0 and 1: it is a share of the steps"
            )
        if self.prompt < 1:
            raise LabError(
                f"objective.prompt={self.prompt} must be 1 or more: the student goes on from some token"
            )
        if self.on_policy and not self.soft_weight:
            raise LabError(
                "objective.on_policy needs objective.soft_weight: only the teacher judges what is written"
            )
        if self.top_k is None:
            return
        if self.top_k < 1:
            raise LabError(
                f"objective.top_k={self.top_k} must be 1 or more, or null for the whole distribution"
            )
        if self.temperature != 1:
            raise LabError(
                f"objective.top_k={self.top_k} needs objective.temperature=1 (got {self.temperature}): at another one the mass "
                "of the other tokens is not known"
            )

    def _bind(
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int, grouped: str
    ) -> Loss:
        check_causal_lm(student, teacher)
        check_vocabulary(student, teacher)
        if self.top_k is not None and self.top_k >= teacher.vocab_size:
            raise LabError(
                f"objective.top_k={self.top_k} must be less than the teacher's vocabulary of {teacher.vocab_size}; null is all"
            )
        return LMKDLoss(self)


class LMKDLoss(Loss):
    """Reads hidden states and heads of both models; of the student alone without a soft loss."""

    def __init__(self, objective: LMKDObjective) -> None:
        soft = objective.soft_weight > 0
        reads = Needs(next_tokens=True), Needs(next_tokens=soft, top=objective.top_k if soft else None)
        plain = objective.divergence in ("forward_kl", "reverse_kl")
        unset = [*(["mix"] if plain else []), *(["top_k"] if objective.top_k is None else [])]
        unset += [] if objective.on_policy else ["on_policy", "prompt"]
        settings = objective.settings(*unset)
        label = "lm_kd" if objective.divergence == "forward_kl" else f"lm_kd-{objective.divergence}"
        label += f"-top{objective.top_k}" if objective.top_k is not None else ""
        label += f"-on_policy{objective.on_policy:g}" if objective.on_policy else ""
        super().__init__(reads, settings, label)
        self.objective = objective
        if objective.on_policy:
            self.on_policy = OnPolicy(objective.on_policy, objective.prompt)

    def forward(self, views: Views) -> dict[str, Tensor]:
        """loss_soft and loss_lm; a term of weight 0 is left out. Only their sum has a gradient that means anything."""
        settings, top, theirs = self.objective, views.teacher.top, views.teacher.next_tokens
        assert views.student.next_tokens is not None and views.ids is not None
        before, labels = next_places(views.ids, views.mask, views.written)
        hidden, head = views.student.next_tokens
        teacher: tuple[Tensor, Head] | Top | None = None
        if settings.top_k is not None and top is not None:
            teacher = Top(*(part.flatten(0, 1)[before] for part in top))
        elif theirs is not None:
            teacher = theirs[0].flatten(0, 1)[before], theirs[1]
        soft, hard = next_token_loss(
            hidden.flatten(0, 1)[before],
            head,
            labels if views.written is None else None,
            teacher,
            divergence=settings.divergence,
            mix=settings.mix,
            temperature=settings.temperature,
            soft_weight=settings.soft_weight,
            hard_weight=settings.hard_weight,
        )
        if not settings.hard_weight or views.written is not None:
            return {"loss_soft": soft}
        return {"loss_soft": soft, "loss_lm": hard} if settings.soft_weight else {"loss_lm": soft + hard}
