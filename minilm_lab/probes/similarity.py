"""How well the cosine of two sentences' embeddings ranks pairs by similarity (STS-B, Cer et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scipy.stats import spearmanr
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minilm_lab.data.splits import Splits, references, texts
from minilm_lab.errors import LabError
from minilm_lab.models.encoder import Encoder
from minilm_lab.models.pooling import cosine
from minilm_lab.probes.base import TaskProbe


@dataclass
class SimilarityProbe(TaskProbe):
    """100 × Spearman rank correlation of cosine and rating, on the dev split of a regression of pairs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._task.kind != "regression":
            raise LabError(
                f"probe.task={self._task.name}: similarity needs pairs with numbers (a regression), such as stsb."
            )

    def load(self, hub: str | None, cache: Path) -> Splits:
        """The examples of the task; LabError when they are not pairs."""
        splits = super().load(hub, cache)
        if "pair" not in splits.dev.column_names:
            raise LabError(
                f"probe.task={self._task.name} has single texts; similarity needs pairs, such as stsb."
            )
        return splits

    def measure(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, splits: Splits
    ) -> dict[str, float]:
        """{"<task>_spearman": …}; 0 where all cosines are equal."""
        pairs = list(texts(splits.dev))
        sides = [(first, None) for first, _ in pairs] + [(second or "", None) for _, second in pairs]
        encoder = Encoder(model, tokenizer, length=self.length, batch_size=self.batch_size, layer=self.layer)
        rows = encoder(sides)
        similar = cosine(rows[: len(pairs)], rows[len(pairs) :]).numpy()
        constant = bool((similar == similar[0]).all())
        found = 0.0 if constant else float(spearmanr(similar, references(splits.dev)).statistic)
        return {f"{self._task.name}_spearman": 100.0 * found}
