"""The sentence embeddings themselves: what a text's tokens are pooled to, after the last layer of both models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from minilm_lab.errors import LabError
from minilm_lab.models.pooling import MODES, pool
from minilm_lab.models.taps import Needs
from minilm_lab.objectives.base import Loss, Objective, Views, lift
from minilm_lab.objectives.distances import widened

if TYPE_CHECKING:
    from transformers import PretrainedConfig

DISTANCES = ("cosine", "mse")


@dataclass
class EmbeddingObjective(Objective):
    """Distance of the pooled last hidden states of student and teacher, mean over the samples of a batch.

    The loss of sentence-transformers' model distillation (MSE) and of LEAF (arXiv 2509.12539). A relation objective
    never reaches the last block's output, which a sentence encoder was trained for: as a second term this trains it,
    objective=[minilmv2,embedding] teacher.layer=-2. It always reads the last layer, whatever teacher.layer is.
    A narrower student is lifted by a learned matrix without bias.

    Loss, of teacher ᵗ and student ˢ:

        L = 1/B · Σ_n D(W pool(Hˢ_n), pool(Hᵗ_n)),  D(a, b) = 1 − cos(a, b), or ‖a − b‖² / D with distance=mse

    | of | reads | shape |
    |---|---|---|
    | student, teacher | last hidden states, pooled | (B, L, D) → (B, D) |

    Needs: Nothing: widths may differ.

    When to use it: Sentence encoders; alone it keeps the vectors and leaves little to fine-tune, so take it in a sum with relations.

    Example:

        minilm-lab distill 'objective=[minilmv2,embedding]' objective.weights.embedding=10 teacher.layer=-2 student.init.layers=uniform student.init.embeddings=teacher
    """

    distance: str = "cosine"
    """cosine: 1 − cosine of the angle; mse: mean square difference over the dimensions."""
    pooling: str = "mean"
    """mean: over the real tokens; cls: the first real token; and the others of minilm_lab.models.pooling."""

    def __post_init__(self) -> None:
        for name, allowed in (("distance", DISTANCES), ("pooling", MODES)):
            if getattr(self, name) not in allowed:
                raise LabError(f"objective.{name}={getattr(self, name)}: allowed are {', '.join(allowed)}")

    def _bind(
        self, student: PretrainedConfig, teacher: PretrainedConfig, distilled: int, grouped: str
    ) -> Loss:
        depths = int(student.num_hidden_layers), int(teacher.num_hidden_layers)
        return EmbeddingLoss(self, depths, int(student.hidden_size), int(teacher.hidden_size))


class EmbeddingLoss(Loss):
    """Reads the last hidden states."""

    def __init__(
        self, objective: EmbeddingObjective, depths: tuple[int, int], width: int, teacher_width: int
    ) -> None:
        ours, theirs = (Needs(hidden=frozenset({depth})) for depth in depths)
        pooled = "" if objective.pooling == "mean" else f"-{objective.pooling}"
        label = f"embedding-{objective.distance}{pooled}"
        super().__init__((ours, theirs), objective.settings(), label)
        self.objective, self.depths = objective, depths
        self.lift = lift(width, teacher_width, bias=False)

    def forward(self, views: Views) -> dict[str, Tensor]:
        """loss_embedding; a sample without a real token counts 0."""
        ours, theirs = views.student.hidden[self.depths[0]], views.teacher.hidden[self.depths[1]]
        mask = torch.ones(ours.shape[:2], device=ours.device) if views.mask is None else views.mask
        real = mask.any(dim=1)
        ours, theirs = (
            pool(widened(states)[real], mask[real], self.objective.pooling) for states in (ours, theirs)
        )
        lifted = widened(self.lift(ours))
        if self.objective.distance == "cosine":
            distances = 1 - F.cosine_similarity(lifted, theirs, dim=1)
        else:
            distances = (lifted - theirs).square().mean(dim=1)
        return {"loss_embedding": distances.sum() / len(mask)}
