"""evaluator=spurious: are tokens wrong because their keys lie near those of the top ranks?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minilm_lab.errors import LabError
from minilm_lab.evaluation.result import Result
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.studies.knowledge.clusters import kept_clusters, usual_number
from minilm_lab.studies.knowledge.keys import keys_of
from minilm_lab.studies.knowledge.matched import cosine_slope, matched_difference
from minilm_lab.studies.knowledge.of_prompts import OfPrompts
from minilm_lab.studies.knowledge.pictures import answer_map, by_rank
from minilm_lab.studies.knowledge.prompts import Asker, Reply, asked


@dataclass
class Spurious(OfPrompts):
    """Each of the first hundred tokens begins an answer; the ranks behind the top ten are split by their clusters.

    The headline is `difference`: how much more often a token outside the top ten's clusters is right than one inside, in
    points, at equal rank (tokens inside rank better, and better ranks are right more often). Its controls are the same
    with shuffled labels, and the slope on the cosine, which knows no clusters.
    """

    top: int = 10
    """Ranks whose clusters count as the top's."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    """Of k-means; the mean of all is reported. Choosing clusters afterwards can make a difference of any sign."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.answers <= self.top:
            raise LabError(f"evaluator.answers={self.answers} must be more than evaluator.top={self.top}.")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise LabError(f"evaluator.seeds={self.seeds}: one or more different seeds are wanted.")

    @property
    def primary(self) -> str:
        """See the class."""
        return "difference"

    def __call__(self, model: LanguageModel) -> Result:
        """The scores; a row a token: prompt, rank, token, answer, right, whether in a cluster of the top's."""
        keys, asker = keys_of(model), Asker(model, self.length)
        prompts = [asked(model, gold, self.style) for gold in self.golds]
        tokens = asker.first_tokens(prompts, self.answers)
        replies = asker.ask(
            [prompt for prompt in prompts for _ in range(self.answers)],
            [gold for gold in self.golds for _ in range(self.answers)],
            [[token] for token in tokens.flatten().tolist()],
        )
        grid = [replies[n : n + self.answers] for n in range(0, len(replies), self.answers)]
        number = self.clusters or usual_number(len(keys))
        size = int(model.model.get_output_embeddings().weight.shape[0])
        labels = torch.stack(
            [
                _of_vocabulary(kept_clusters(keys.vectors, number, seed, self._cache).labels, keys.ids, size)
                for seed in self.seeds
            ]
        )
        known = (labels[0] >= 0).nonzero()[:, 0]
        shuffled = labels.clone()
        order = torch.randperm(len(known), generator=torch.Generator().manual_seed(self.seed))
        shuffled[:, known] = labels[:, known[order]]
        measured = Measured.of(grid, tokens, labels, self.top)
        scores = measured.scores() | {
            f"shuffled_{name}": value
            for name, value in Measured.of(grid, tokens, shuffled, self.top).scores().items()
            if name in ("difference", "difference_low", "difference_high", "in_share", "expected_share")
        }
        cosine = _nearness(model, tokens, self.top)
        slope = cosine_slope(measured.right[:, self.top :], cosine, self.top + 1)
        scores |= {"slope": slope.value, "slope_low": slope.low, "slope_high": slope.high}
        # Seed by seed: by which clusters the difference is told must be seen not to matter.
        facts: dict[str, Any] = {"clusters": number, "prompts": len(self.golds)}
        facts["difference_by_seed"] = [
            Measured.of(grid, tokens, labels[n : n + 1], self.top).scores()["difference"]
            for n in range(len(self.seeds))
        ]
        rows = self._rows(model, grid, measured)
        vectors = model.model.get_output_embeddings().weight.detach().float().cpu()
        best = int(measured.right.sum(axis=1).argmax())
        texts = [model.text([token]) for token in tokens[best].tolist()]
        picture = answer_map(
            vectors[tokens[best]],
            measured.inside[0, best],
            measured.right[best],
            texts,
            self.golds[best].asks,
            self.top,
        )
        files = {
            "ranks.svg": by_rank(measured.right, measured.inside[0], self.top).svg(),
            "answers.svg": picture.svg(),
        }
        return Result(scores, rows, files, facts)

    def _rows(
        self, model: LanguageModel, grid: list[list[Reply]], measured: Measured
    ) -> list[dict[str, Any]]:
        return [
            {
                "prompt": gold.name,
                "rank": rank + 1,
                "token": model.text([reply.first]),
                "answer": reply.text,
                "right": reply.gold is not None,
                "first": bool(measured.first[p, rank]),
                "inside": bool(measured.inside[0, p, rank]),
            }
            for p, gold in enumerate(self.golds)
            for rank, reply in enumerate(grid[p])
        ]


@dataclass(frozen=True)
class Measured:
    """What the first N tokens of P prompts led to, under S clusterings."""

    right: np.ndarray
    """bool (P, N)."""
    first: np.ndarray
    """bool (P, N): no better rank gave this answer."""
    inside: np.ndarray
    """bool (S, P, N): in a cluster of the prompt's top ranks."""
    expected: float
    """Share of the vocabulary in the clusters of a prompt's top ranks."""
    top: int

    @classmethod
    def of(cls, grid: list[list[Reply]], tokens: Tensor, labels: Tensor, top: int) -> Measured:
        """tokens: int64 (P, N); labels: int64 (S, V), −1 for tokens that have no cluster."""
        right = np.array([[reply.gold is not None for reply in row] for row in grid])
        first = np.array([_firsts([reply.key for reply in row]) for row in grid])
        clusters = labels[:, tokens]
        inside = np.zeros(clusters.shape, dtype=bool)
        shares = []
        for s, p in np.ndindex(*inside.shape[:2]):
            best = {c for c in clusters[s, p, :top].tolist() if c >= 0}
            inside[s, p] = np.isin(clusters[s, p].numpy(), list(best))
            known = labels[s][labels[s] >= 0].numpy()
            shares.append(np.isin(known, list(best)).mean())
        return cls(right, first, inside, float(np.mean(shares)), top)

    def scores(self) -> dict[str, float]:
        """Everything in points; ranks as they are."""
        top, start = self.top, self.top + 1
        right, inside = self.right[:, top:], self.inside[..., top:]
        ranks = np.broadcast_to(np.arange(right.shape[1]) + start, inside.shape)
        hits = np.broadcast_to(right, inside.shape)
        everything = np.ones_like(right)
        share = float(inside.mean())
        return {
            "top_accuracy": 100 * float(self.right[:, :top].mean()),
            "in_accuracy": 100 * _mean(hits[inside]),
            "out_accuracy": 100 * _mean(hits[~inside]),
            "in_rank": _mean(ranks[inside]),
            "out_rank": _mean(ranks[~inside]),
            "in_share": 100 * share,
            "expected_share": 100 * self.expected,
            "enrichment": share / self.expected if self.expected else 0.0,
            **matched_difference(right, inside, everything, start).scores("difference"),
            **matched_difference(right, inside, self.first[:, top:], start).scores("first_difference"),
            "distinct": float((self.right & self.first).sum(axis=1).mean()),
        }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0


def _firsts(keys: list[object]) -> list[bool]:
    seen: set[object] = set()
    return [not (key in seen or seen.add(key)) for key in keys]  # type: ignore[func-returns-value]


def _of_vocabulary(labels: Tensor, ids: Tensor, size: int) -> Tensor:
    """Labels of keys as labels of all `size` tokens, −1 for those that are no key."""
    whole = torch.full((size,), -1)
    whole[ids] = labels
    return whole


def _nearness(model: LanguageModel, tokens: Tensor, top: int) -> np.ndarray:
    """(P, N − top): the largest cosine of each token's key with those of the top ranks."""
    weight: Any = model.model.get_output_embeddings().weight
    unit = torch.nn.functional.normalize(weight.detach().float().cpu()[tokens], dim=-1)
    cosines: np.ndarray = (unit[:, top:] @ unit[:, :top].transpose(1, 2)).amax(dim=2).numpy()
    return cosines
