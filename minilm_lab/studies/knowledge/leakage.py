"""evaluator=leakage: what else becomes likelier when a model learns one right answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minilm_lab.errors import LabError
from minilm_lab.evaluation.result import Result
from minilm_lab.models.decoding import ranked
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.studies.knowledge.clusters import kept_clusters, usual_number
from minilm_lab.studies.knowledge.gold_lists import GoldList
from minilm_lab.studies.knowledge.keys import keys_of
from minilm_lab.studies.knowledge.matched import bootstrap
from minilm_lab.studies.knowledge.of_prompts import OfPrompts
from minilm_lab.studies.knowledge.prompts import asked

TRAINED = ("body", "keys", "all")


@dataclass
class Leakage(OfPrompts):
    """A few steps of SGD towards the first token of one right, low-ranked answer a prompt; then the model is as before.

    Of keys that hardly move, what learns is the query, and a query that moves towards a key moves towards its neighbours:
    `leakage` is how far the target's cluster gains beyond random tokens, as a share of what the target gains beyond them.
    """

    trained: str = "all"
    """body: everything but the keys; keys: the output embeddings alone; all. Tied keys are untied first."""
    steps: int = 3
    """Of SGD on −log p of the target."""
    lr: float = 1e-4
    """Of SGD."""
    best_rank: int = 100
    """The target's first token ranks between this …"""
    worst_rank: int = 3000
    """… and this."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trained not in TRAINED:
            raise LabError(f"evaluator.trained={self.trained}: allowed are {', '.join(TRAINED)}.")
        if self.lr <= 0:
            raise LabError(f"evaluator.lr={self.lr} must be more than 0.")
        if self.best_rank > self.worst_rank:
            raise LabError(f"evaluator.best_rank={self.best_rank} is more than worst_rank={self.worst_rank}.")

    @property
    def primary(self) -> str:
        """See the class."""
        return "leakage"

    def __call__(self, model: LanguageModel) -> Result:
        """Mean gains of log-probability; a row a prompt. Prompts without such an answer are counted in the facts."""
        keys = keys_of(model)
        number = self.clusters or usual_number(len(keys))
        labels = torch.full((int(model.model.get_output_embeddings().weight.shape[0]),), -1)
        labels[keys.ids] = kept_clusters(keys.vectors, number, self.seed, self._cache).labels
        prompts = [asked(model, gold, self.style) for gold in self.golds]
        order = ranked(model.next_logits(prompts)).cpu()
        rows = []
        with untied(model.model):
            parts = _parts(model.model, self.trained)
            for gold, prompt, ranking in zip(self.golds, prompts, order, strict=True):
                target = self._target(model, gold, ranking)
                if target is not None:
                    gains, moved = self._learn(model, parts, prompt, target)
                    draw = random.Random(f"{self.seed} {gold.name}")
                    rows.append({"prompt": gold.name, **_row(gains, target, labels, draw), **moved})
                    rows[-1]["token"] = model.text([target])
                    rows[-1]["rank"] = int((ranking == target).nonzero()[0, 0]) + 1
        if not rows:
            raise LabError(
                f"no list has an answer whose first token ranks {self.best_rank} to {self.worst_rank}; widen the range."
            )
        names = ("target", "mates", "random", "key_change", "body_change")
        scores = {name: float(np.mean([row[name] for row in rows])) for name in names}
        gained, mates, chance = (np.array([row[name] for row in rows])[None] for name in names[:3])
        scores |= bootstrap(mates - chance, gained - chance).scores("leakage")
        return Result(
            scores,
            rows,
            facts={"clusters": number, "prompts": len(rows), "left_out": len(prompts) - len(rows)},
        )

    def _target(self, model: LanguageModel, gold: GoldList, ranking: Tensor) -> int | None:
        """A token that begins a right answer and ranks within the limits, drawn by the seed; None if there is none."""
        names = [name[:1].upper() + name[1:] for names in gold.answers for name in names[:1]]
        begins = {model.ids(name, begins=False)[0] for name in names}
        eligible = [t for t in ranking[self.best_rank - 1 : self.worst_rank].tolist() if t in begins]
        return random.Random(f"{self.seed} {gold.name}").choice(eligible) if eligible else None

    def _learn(
        self, model: LanguageModel, parts: dict[str, list[nn.Parameter]], prompt: list[int], target: int
    ) -> tuple[Tensor, dict[str, float]]:
        ids = torch.tensor([prompt], device=model.model.device)

        def logits() -> Tensor:
            return model.model(input_ids=ids, use_cache=False).logits[0, -1].float()

        before = {name: [p.detach().clone() for p in some] for name, some in parts.items()}
        everything = [p for some in parts.values() for p in some]
        try:
            gains = learn(logits, everything, target, self.lr, self.steps)
            moved = {f"{name}_change": _moved(parts[name], before[name]) for name in parts}
        finally:
            with torch.no_grad():
                for name, some in parts.items():
                    for parameter, old in zip(some, before[name], strict=True):
                        parameter.copy_(old)
        return gains.cpu(), {"key_change": 0.0, "body_change": 0.0, **moved}


def learn(
    logits: Callable[[], Tensor], parameters: Sequence[nn.Parameter], target: int, lr: float, steps: int
) -> Tensor:
    """Gain (V,) of log-probability by `steps` of SGD on −log p(target) in `parameters`, which stay changed."""
    wanted = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        with torch.no_grad():
            before = logits().log_softmax(dim=0)
        for _ in range(steps):
            with torch.enable_grad():
                loss = -logits().log_softmax(dim=0)[target]
                gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    if gradient is not None:
                        parameter.sub_(gradient, alpha=lr)
        with torch.no_grad():
            return logits().log_softmax(dim=0) - before
    finally:
        for parameter, wants in zip(parameters, wanted, strict=True):
            parameter.requires_grad_(wants)


@contextmanager
def untied(model: Any) -> Iterator[None]:
    """Within, the output embeddings are a copy of their own, so that keys move without the words that are read."""
    head = model.get_output_embeddings()
    weight = head.weight
    head.weight = nn.Parameter(weight.detach().clone(), requires_grad=weight.requires_grad)
    try:
        yield
    finally:
        head.weight = weight


def _parts(model: Any, trained: str) -> dict[str, list[nn.Parameter]]:
    key = model.get_output_embeddings().weight
    body = [p for p in model.parameters() if p is not key]
    whole = {"key": [key], "body": body}
    return {name: some for name, some in whole.items() if trained in ("all", {"key": "keys"}.get(name, name))}


def _moved(parameters: Sequence[Tensor], before: Sequence[Tensor]) -> float:
    """Relative change in the Frobenius norm, of all together."""
    square = sum(
        float((p.detach() - old).double().square().sum()) for p, old in zip(parameters, before, strict=True)
    )
    size = sum(float(old.double().square().sum()) for old in before)
    return float((square / size) ** 0.5)


def _row(gains: Tensor, target: int, labels: Tensor, draw: random.Random) -> dict[str, float]:
    """Mean gain of the target, of the other tokens of its cluster, and of as many random ones outside it."""
    mates = ((labels == labels[target]) & (torch.arange(len(labels)) != target)).nonzero()[:, 0]
    outside = ((labels >= 0) & (labels != labels[target])).nonzero()[:, 0].tolist()
    others = torch.tensor(draw.sample(outside, min(len(outside), 500)))
    mate_gain = float(gains[mates].mean()) if len(mates) else float(gains[others].mean())
    return {"target": float(gains[target]), "mates": mate_gain, "random": float(gains[others].mean())}
