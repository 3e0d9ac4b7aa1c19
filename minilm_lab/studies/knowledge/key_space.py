"""evaluator=key_space: the shape of a model's keys, and how much of another model's it shares."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import torch
from torch import Tensor

from minilm_lab.errors import LabError
from minilm_lab.evaluation.on_language_model import OfLanguageModel
from minilm_lab.evaluation.result import Result
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.models.resolve import resolve
from minilm_lab.studies.knowledge import geometry
from minilm_lab.studies.knowledge.clusters import kept_clusters, usual_number
from minilm_lab.studies.knowledge.keys import Keys, keys_of
from minilm_lab.studies.knowledge.pictures import key_map


@dataclass
class KeySpace(OfLanguageModel):
    """Norms, spectrum, hubs and clusters of the output embeddings; beside another model, what both share.

    No single score says that a key space was kept: keys projected to half their width keep a CKA of 99 and answer
    nothing, and two clusterings of the very same keys by two seeds agree little, which is why that ceiling stands beside.
    """

    against: Optional[str] = None
    """A model of the same vocabulary to compare with: a folder, a model out of a package, or a hub id."""
    clusters: Optional[int] = None
    """Of k-means; null = 2^round(log2(V / 98))."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    """Of k-means. Two or more: how far they agree is the ceiling of what two models can."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.seeds)) != len(self.seeds) or len(self.seeds) < 2:
            raise LabError(f"evaluator.seeds={self.seeds}: two or more different seeds are wanted.")
        self._reference: Any = None

    @property
    def primary(self) -> str:
        """The share of neighbours that both spaces name; alone, the effective rank."""
        return "effective_rank" if self.against is None else "neighbours"

    def prepare(self, hub: str | None, cache: Path) -> None:
        """Find the model to compare with; LabError if there is none."""
        super().prepare(hub, cache)
        if self.against is not None:
            self._reference = resolve(self.against, runs=Path("runs"), cache=cache, key="evaluator.against")

    def identity(self) -> dict[str, Any]:
        """See `Evaluator.identity`; the other model by its content."""
        against = None if self._reference is None else self._reference.identity
        return {**super().identity(), "against": against}

    def __call__(self, model: LanguageModel) -> Result:
        """The scores; clusters.csv with the tokens of each cluster of the first seed; a map of some of them."""
        keys = keys_of(model)
        number = self.clusters or usual_number(len(keys))
        labels, inertia = self._labels(keys, number)
        scores = geometry.shape_facts(keys.vectors, seed=0)
        scores |= {f"{name}_seeds": 100 * value for name, value in geometry.agreement(labels).items()}
        scores["inertia"] = inertia
        facts: dict[str, Any] = {"keys": len(keys), "width": keys.vectors.shape[1], "clusters": number}
        if self._reference is not None:
            scores |= self._compared(model, keys, labels, number)
        tokens = [model.text([token]) for token in keys.ids.tolist()]
        picture = key_map(keys.vectors, labels[0], tokens)
        files = {"clusters.csv": _table(keys, labels[0], tokens), "keys.svg": picture.svg()}
        return Result(scores, files=files, facts=facts)

    def _labels(self, keys: Keys, number: int) -> tuple[list[Tensor], float]:
        made = [kept_clusters(keys.vectors, number, seed, self._cache) for seed in self.seeds]
        return [clusters.labels for clusters in made], sum(c.inertia for c in made) / len(made)

    def _compared(
        self, model: LanguageModel, keys: Keys, labels: list[Tensor], number: int
    ) -> dict[str, float]:
        other = self.open(self._reference.where, self._reference.revision)
        theirs = keys_of(other)
        if model.tokenizer.get_vocab() != other.tokenizer.get_vocab() or not torch.equal(
            keys.ids, theirs.ids
        ):
            raise LabError(
                f"evaluator.against={self.against}: its vocabulary is not that of the model, so their keys are not of "
                "the same tokens; compare a student with its own teacher."
            )
        their_labels, _ = self._labels(theirs, number)
        both = keys.vectors, theirs.vectors
        values = {
            "cka": geometry.cka(*both),
            "neighbours": geometry.shared_neighbours(*both, seed=0),
            "cosine_correlation": geometry.cosine_correlation(*both, seed=0),
            **geometry.agreement(labels, their_labels),
            **{f"{name}_ceiling": value for name, value in geometry.agreement(their_labels).items()},
        }
        return {name: 100 * value for name, value in values.items()}


def _table(keys: Keys, labels: Tensor, tokens: list[str]) -> str:
    """CSV: a line a cluster, largest first, with the ten tokens that are nearest to its centre."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["cluster", "size", "tokens"])
    counts = torch.bincount(labels)
    for cluster in counts.argsort(descending=True, stable=True).tolist():
        members = (labels == cluster).nonzero()[:, 0]
        if len(members):
            inside = keys.vectors[members]
            near = (inside - inside.mean(dim=0)).norm(dim=1).argsort(stable=True)[:10]
            writer.writerow([cluster, len(members), " ".join(map(repr, (tokens[n] for n in members[near])))])
    return text.getvalue()
