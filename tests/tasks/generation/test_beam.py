"""Beam search against exhaustive search, greedy decoding and UniLM's rules, on tables of probabilities."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from minilm_lab.tasks.generation.beam import penalty, repeated, search

END = 0


class Table:
    """A language model that is a table: random log-probabilities of the next token for every prefix."""

    def __init__(self, batch: int, words: int, seed: int, spread: float = 2.0) -> None:
        self.batch, self.words, self.seed, self.spread = batch, words, seed, spread
        self.prefixes: list[list[tuple[int, ...]]] = []
        self.calls = 0

    def next(self, row: int, prefix: tuple[int, ...]) -> Tensor:
        number = sum((token + 1) * (self.words + 1) ** place for place, token in enumerate(prefix))
        draw = torch.Generator().manual_seed(self.seed + 7919 * row + 104729 * number)
        logits = self.spread * torch.randn(self.words, generator=draw, dtype=torch.float64)
        return logits.log_softmax(dim=0)

    def __call__(self, parents: Tensor | None, tokens: Tensor | None) -> Tensor:
        self.calls += 1
        if parents is None or tokens is None:
            self.prefixes = [[()] for _ in range(self.batch)]
        else:
            self.prefixes = [
                [
                    old[parent] + (token,)
                    for parent, token in zip(parents[r].tolist(), tokens[r].tolist(), strict=True)
                ]
                for r, old in enumerate(self.prefixes)
            ]
        return torch.stack(
            [torch.stack([self.next(r, prefix) for prefix in row]) for r, row in enumerate(self.prefixes)]
        )

    def score(self, row: int, tokens: Sequence[int]) -> float:
        return sum(float(self.next(row, tuple(tokens[:place]))[token]) for place, token in enumerate(tokens))


def has_repeat(tokens: Sequence[int], size: int) -> bool:
    grams = [tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)]
    return len(set(grams)) < len(grams)


def exhaustive(table: Table, row: int, length: int, exponent: float, no_repeat: int = 0) -> list[int]:
    """Of all texts that end within `length` tokens or are cut there, the one that is worth most."""
    best, found = -math.inf, []
    others = [word for word in range(table.words) if word != END]
    for size in range(length + 1):
        for body in itertools.product(others, repeat=size):
            whole = [*body, END] if size < length else list(body)
            if no_repeat and has_repeat(body, no_repeat):
                continue
            worth = table.score(row, whole) / ((5 + len(whole)) / 6) ** exponent
            if worth > best:
                best, found = worth, list(body)
    return found


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.3, 4.0])
@pytest.mark.parametrize("no_repeat", [0, 1, 2])
def test_a_wide_enough_beam_is_exhaustive(exponent: float, no_repeat: int) -> None:
    for seed in range(4):
        table = Table(batch=3, words=4, seed=seed)
        found = search(table, end=END, beams=64, length=4, length_penalty=exponent, no_repeat=no_repeat)
        expected = [exhaustive(table, row, 4, exponent, no_repeat) for row in range(3)]
        assert found == expected


def test_a_narrow_beam_may_miss_the_best_and_a_wider_one_finds_better() -> None:
    worth = {1: 0.0, 4: 0.0, 64: 0.0}
    for seed in range(12):
        table = Table(batch=1, words=4, seed=seed)
        for beams in worth:
            (body,) = search(table, end=END, beams=beams, length=4, length_penalty=1.0)
            whole = [*body, END] if len(body) < 4 else body
            worth[beams] += table.score(0, whole) / penalty(len(whole), 1.0)
    assert worth[1] < worth[4] <= worth[64] + 1e-12


def test_one_hypothesis_is_greedy_decoding() -> None:
    for seed in range(6):
        table = Table(batch=2, words=6, seed=seed)
        found = search(table, end=END, beams=1, length=7)
        for row in range(2):
            made: list[int] = []
            while len(made) < 7:
                token = int(table.next(row, tuple(made)).argmax())
                if token == END:
                    break
                made.append(token)
            assert found[row] == made


def unilm(table: Table, row: int, beams: int, length: int, exponent: float) -> list[int]:
    """The search of UniLM's decoder, written down plainly: no early stop, one example."""
    live: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    ended: list[tuple[float, tuple[int, ...]]] = []
    for made in range(1, length + 1):
        candidates = [
            ((*prefix, word), score + float(table.next(row, prefix)[word]))
            for prefix, score in live
            for word in range(table.words)
        ]
        best = sorted(candidates, key=lambda pair: -pair[1])[:beams]
        done = [pair for pair in best if pair[0][-1] == END or made == length]
        ended += [(score / ((5 + made) / 6) ** exponent, prefix) for prefix, score in done]
        live = [pair for pair in best if pair not in done]
    prefix = max(ended)[1]
    return list(prefix[:-1] if prefix[-1] == END else prefix)


@pytest.mark.parametrize("exponent", [0.0, 1.3])
def test_the_early_stop_changes_no_answer(exponent: float) -> None:
    calls = []
    for seed in range(8):
        table = Table(batch=3, words=7, seed=seed, spread=3.0)
        found = search(table, end=END, beams=3, length=9, length_penalty=exponent)
        calls.append(table.calls)
        assert found == [unilm(table, row, 3, 9, exponent) for row in range(3)]
    assert max(calls) <= 9 and (exponent or min(calls) < 9)


def test_a_repeated_n_gram_is_blocked() -> None:
    tokens = torch.tensor([[[1, 2, 3, 1, 2], [1, 1, 1, 1, 1]]])
    banned = repeated(tokens, 3, 5)
    assert banned[0, 0].nonzero().flatten().tolist() == [3]
    assert banned[0, 1].nonzero().flatten().tolist() == [1]
    assert not repeated(tokens[..., :2], 3, 5).any(), "nothing is three tokens long yet"
    assert repeated(tokens, 1, 5)[0, 0].nonzero().flatten().tolist() == [1, 2, 3]


def test_no_generated_text_has_a_repeat_where_it_would_without_blocking() -> None:
    class Stutter(Table):
        def next(self, row: int, prefix: tuple[int, ...]) -> Tensor:
            last = prefix[-1] if prefix else 1
            return torch.eye(self.words, dtype=torch.float64)[last].mul(4).log_softmax(dim=0)

    free = search(Stutter(1, 5, 0), end=END, beams=2, length=8)[0]
    blocked = search(Stutter(1, 5, 0), end=END, beams=2, length=8, no_repeat=2)[0]
    assert has_repeat(free, 2) and blocked and not has_repeat(blocked, 2)


def test_the_penalty_is_that_of_gnmt() -> None:
    assert penalty(1, 0.9) == 1.0 and penalty(7, 1.0) == 2.0
    assert penalty(13, 0.5) == pytest.approx(math.sqrt(3))
