"""How well the cosine of two sentences' embeddings ranks pairs by similarity (STS-B, Cer et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minilm_lab.data.splits import references
from minilm_lab.errors import LabError
from minilm_lab.evaluation.on_task import OfEncoder
from minilm_lab.evaluation.result import Result

if TYPE_CHECKING:
    from minilm_lab.models.encoder import Encoder


@dataclass
class Similarity(OfEncoder):
    """100 × Spearman rank correlation of cosine and rating, on the dev split of a regression of pairs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._task.kind != "regression":
            raise LabError(
                f"evaluator.task={self._task.name}: similarity needs pairs with numbers (a regression), such as stsb."
            )

    @property
    def primary(self) -> str:
        """See `Evaluator.primary`."""
        return f"{self._task.name}_spearman"

    def prepare(self, hub: str | None, cache: Path) -> None:
        """Read the task's data; LabError when its texts are not pairs."""
        super().prepare(hub, cache)
        if "pair" not in self.splits.dev.column_names:
            raise LabError(
                f"evaluator.task={self._task.name} has single texts; similarity needs pairs, such as stsb."
            )
        if len({*references(self.splits.dev)}) < 2:
            raise LabError(
                f"evaluator.task={self._task.name}: all its ratings are equal, and a correlation with them does not exist."
            )

    def __call__(self, model: Encoder) -> Result:
        """{"<task>_spearman": …}, 0 where all cosines are equal; and the cosine of each pair."""
        from scipy.stats import spearmanr

        from minilm_lab.models.pooling import cosine

        dev, ratings = self.splits.dev, references(self.splits.dev)
        vectors = model([*dev["text"][:], *dev["pair"][:]])
        similar = cosine(vectors[: len(dev)], vectors[len(dev) :]).numpy()
        constant = bool((similar == similar[0]).all())
        value = 0.0 if constant else 100.0 * float(spearmanr(similar, ratings).statistic)
        rows = [
            {"id": i, "prediction": float(prediction), "reference": float(reference)}
            for i, prediction, reference in zip(dev["id"][:], similar, ratings, strict=True)
        ]
        return Result({self.primary: value}, rows)
