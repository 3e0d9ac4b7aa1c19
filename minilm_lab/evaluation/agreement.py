"""How much of another encoder's geometry a model's sentence vectors keep, on texts alone: no label is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from minilm_lab.errors import LabError
from minilm_lab.evaluation.on_task import OfEncoder
from minilm_lab.evaluation.result import Result
from minilm_lab.models.resolve import Model, resolve

if TYPE_CHECKING:
    from torch import Tensor

    from minilm_lab.models.encoder import Encoder

NEIGHBOURS = 10


@dataclass
class Agreement(OfEncoder):
    """Of the first texts of a task's dev split, every score × 100:

    `agreement`: Spearman correlation of the cosines of all pairs of texts, in the model's and in the other's vectors;
    `neighbours`: the mean share of a text's 10 nearest that both have; `cosine`: the mean cosine of the two vectors of a
    text, where they are equally wide. Widths and tokenizers may differ.
    """

    against: Optional[str] = None
    """The other encoder: a run in ./runs, a folder, an embedded name or a hub id."""
    dev_examples: int = 500
    """Texts, at most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.against is None:
            raise LabError("evaluator.against must be given: the model that the vectors are compared with.")
        if self.dev_examples <= NEIGHBOURS:
            raise LabError(f"evaluator.dev_examples={self.dev_examples} must be more than {NEIGHBOURS}.")
        self._other: Model | None = None
        self._target: Tensor | None = None

    @property
    def primary(self) -> str:
        """See `Evaluator.primary`."""
        return "agreement"

    def identity(self) -> dict[str, Any]:
        """See `Evaluator.identity`; the other model by what decides its vectors."""
        assert self._other is not None
        return {**super().identity(), "against": self._other.identity}

    def prepare(self, hub: str | None, cache: Path) -> None:
        """Read the texts and find the other model."""
        super().prepare(hub, cache)
        assert self.against is not None
        self._other = resolve(self.against, runs=Path("runs"), cache=cache, key="evaluator.against")
        if len(self._texts) <= NEIGHBOURS:
            raise LabError(
                f"evaluator.task={self._task.name} has {len(self._texts)} different dev texts; more than {NEIGHBOURS} are needed."
            )

    @property
    def _texts(self) -> list[str]:
        return list(dict.fromkeys(self.splits.dev["text"][:]))[: self.dev_examples]

    def __call__(self, model: Encoder) -> Result:
        """The three scores (`cosine` of equal widths only)."""
        import torch
        from scipy.stats import spearmanr

        from minilm_lab.models.pooling import cosine

        texts = self._texts
        ours, theirs = model(texts), self._vectors(texts)
        scores = {}
        grids = [torch.nn.functional.normalize(v.double(), dim=1) for v in (ours, theirs)]
        similar = [(grid @ grid.T).fill_diagonal_(-2) for grid in grids]
        pairs = torch.triu_indices(len(texts), len(texts), offset=1)
        ranks = spearmanr(*(s[pairs[0], pairs[1]].numpy() for s in similar))
        scores["agreement"] = 100 * float(ranks.statistic)
        near = [s.topk(NEIGHBOURS, dim=1).indices.tolist() for s in similar]
        shared = sum(len(set(mine) & set(other)) for mine, other in zip(*near, strict=True))
        scores["neighbours"] = 100 * shared / (NEIGHBOURS * len(texts))
        if ours.shape[1] == theirs.shape[1]:
            scores["cosine"] = 100 * float(cosine(ours, theirs).mean())
        return Result(scores)

    def _vectors(self, texts: list[str]) -> Tensor:
        """Of the other model, made once."""
        from minilm_lab.models.encoder import Encoder

        if self._target is None:
            assert self._other is not None
            other = Encoder.load(self._other.where, self._other.revision, length=self.length)
            self._target = other(texts)
        return self._target
