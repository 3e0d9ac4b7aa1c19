"""Which token comes next: greedy, sampled as a function of (seed, row), or by beam search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from minilm_lab.errors import LabError

METHODS = ("greedy", "sample", "beam")
#: Nuclei are nearly always smaller than this; sorting a vocabulary for each token is slow.
SMALL_NUCLEUS = 512


@dataclass(frozen=True)
class Decoding:
    """How a text is continued."""

    method: str = "greedy"
    """greedy, sample or beam."""
    length: int = 32
    """Most tokens of an answer, the end token included, forced tokens not."""
    temperature: float = 1.0
    """Of sampling: divides the logits."""
    top_p: float = 1.0
    """Of sampling: the fewest tokens that together have this probability; 1 = all."""
    seed: int = 0
    """Of sampling: what row n draws is a function of (seed, n) and of nothing else."""
    beams: int = 4
    """Of beam search: hypotheses of a text at a time."""
    length_penalty: float = 1.0
    """Of beam search: a hypothesis is worth its log-probability / (its tokens ** length_penalty)."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise LabError(f"decoding.method={self.method}: allowed are {', '.join(METHODS)}")
        if self.length < 1 or self.beams < 1:
            raise LabError(f"decoding.length={self.length} and decoding.beams={self.beams} must be 1 or more")
        if not self.temperature > 0:
            raise LabError(
                f"decoding.temperature={self.temperature} must be more than 0; for the likeliest token take method=greedy"
            )
        if not 0 < self.top_p <= 1:
            raise LabError(f"decoding.top_p={self.top_p} must be more than 0 and at most 1")


@dataclass(frozen=True)
class Answer:
    """What a model wrote."""

    tokens: list[int]
    """Forced tokens first; without the end token."""
    ended: bool
    """Whether the model ended it; false: cut at the greatest length."""
    log_probability: float
    """Of the tokens that the model chose, at temperature 1, the end token's included."""


def ranked(logits: Tensor, count: int | None = None) -> Tensor:
    """Ids (…, count) from likeliest to least likely; equal logits in the order of their ids.

    logits: (…, V) float32: in bfloat16 more than half of the first hundred tie.
    """
    return logits.sort(dim=-1, descending=True, stable=True).indices[..., :count]


def likeliest(logits: Tensor) -> Tensor:
    """The first of `ranked`, without sorting: (N, V) -> int64 (N,)."""
    ids = torch.arange(logits.shape[1], device=logits.device)
    largest = logits.max(dim=1, keepdim=True).values
    return torch.where(logits == largest, ids, logits.shape[1]).amin(dim=1)


def draws(seed: int, rows: Sequence[int], length: int) -> np.ndarray:
    """float64 (rows, length) in [0, 1): token t of row n by its own generator of (seed, n)."""
    return np.stack([np.random.default_rng([seed, row]).random(length) for row in rows])


def sampled(logits: Tensor, uniform: Tensor, temperature: float, top_p: float) -> Tensor:
    """int64 (N,): the token at which the distribution function passes `uniform` (N,) float64.

    With top_p < 1 that of the nucleus (Holtzman et al. 2020, arXiv 1904.09751), likeliest first; else in order of ids.
    """
    probabilities = (logits / temperature).softmax(dim=1)
    if top_p == 1:
        total = probabilities.double().cumsum(dim=1)
        return _passes(total, uniform * total[:, -1])
    ids = _likeliest_few(probabilities, top_p)
    total = probabilities.gather(1, ids).double().cumsum(dim=1)
    last = _passes(total, torch.full_like(uniform, top_p))
    mass = total.gather(1, last[:, None])[:, 0]
    return ids.gather(1, _passes(total, uniform * mass)[:, None])[:, 0]


def _likeliest_few(probabilities: Tensor, top_p: float) -> Tensor:
    """Ids (N, some) as `ranked`, of a total probability of `top_p` at least."""
    if probabilities.shape[1] > SMALL_NUCLEUS:
        values, few = probabilities.topk(SMALL_NUCLEUS, dim=1)
        if bool((values.double().sum(dim=1) > top_p).all()):
            few = few.sort(dim=1).values
            return few.gather(1, ranked(probabilities.gather(1, few)))
    return ranked(probabilities)


def _passes(total: Tensor, target: Tensor) -> Tensor:
    """First place where the sums `total` (N, some) exceed `target` (N,)."""
    place = torch.searchsorted(total, target[:, None], right=True)[:, 0]
    return place.clamp(max=total.shape[1] - 1)


class Beams:
    """Beam search over several texts at once, as transformers' `generate(num_beams=…)` does it.

    Hypotheses that end are put by, the best `beams` of them, and the search of a text stops when its best live
    hypothesis, divided by its present length, is worth less than all that were put by.
    """

    def __init__(self, texts: int, decoding: Decoding, finished: Callable[[int, list[int]], bool]) -> None:
        """finished: whether text n has ended with these tokens."""
        self.decoding, self.finished = decoding, finished
        self.live = list(range(texts))
        self.done: list[list[tuple[float, list[int], float, bool]]] = [[] for _ in range(texts)]
        self._tokens: list[list[list[int]]] = [[[]] for _ in range(texts)]
        self._scores: list[list[float]] = [[0.0] for _ in range(texts)]

    def step(self, logits: Tensor) -> tuple[list[int], list[list[int]]]:
        """Choose from logits (live hypotheses, V), the texts in the order of `live`.

        Returns of each hypothesis that lives on the number of the row that it continues, and its new token.
        """
        beams, length, vocabulary = self.decoding.beams, self.decoding.length, logits.shape[1]
        log_probabilities = logits.log_softmax(dim=1)
        parents, new, live, row = [], [], [], 0
        for text in self.live:
            tokens, scores = self._tokens[text], self._scores[text]
            some = log_probabilities[row : row + len(tokens)]
            some = (some + torch.tensor(scores, device=some.device)[:, None]).flatten()
            # More than `beams`: of a model with up to three end tokens, so many live on whichever end.
            best = some.topk(min(4 * beams, len(some)))
            made = len(tokens[0]) + 1
            going: list[tuple[float, int, list[int]]] = []
            candidates = zip(best.values.tolist(), best.indices.tolist(), strict=True)
            for rank, (score, index) in enumerate(candidates):
                parent, token = divmod(index, vocabulary)
                answer = [*tokens[parent], token]
                ended = self.finished(text, answer)
                if (ended or made == length) and rank < beams:
                    worth = score / made**self.decoding.length_penalty
                    self.done[text].append((worth, answer, score, ended))
                if not ended and len(going) < beams:
                    going.append((score, row + parent, answer))
            self.done[text] = sorted(self.done[text], key=lambda x: -x[0])[:beams]
            row += len(tokens)
            if made == length or not going or self._decided(text, going[0][0], made):
                continue
            live.append(text)
            self._scores[text] = [score for score, _, _ in going]
            self._tokens[text] = [answer for _, _, answer in going]
            parents += [parent for _, parent, _ in going]
            new += [[answer[-1]] for _, _, answer in going]
        self.live = live
        return parents, new

    def _decided(self, text: int, best: float, made: int) -> bool:
        done = self.done[text]
        return len(done) == self.decoding.beams and best / made**self.decoding.length_penalty <= done[-1][0]
