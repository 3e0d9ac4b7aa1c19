"""What published implementations of MiniLM get wrong: each mistake here gives another number, ours the right one."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from minilm_lab.relations import relation_kl

from .loops import loop_loss

HEADS, TOKENS, LENGTH = 2, (3, 8, 5), 8


def _case() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(len(TOKENS), LENGTH, 8, generator=generator).double() for _ in range(2))
    return student, teacher, torch.arange(LENGTH) < torch.tensor(TOKENS)[:, None]


def _relations(x: Tensor, mask: Tensor | None) -> Tensor:
    heads = x.unflatten(-1, (HEADS, -1)).transpose(1, 2)
    logits = heads @ heads.mT / math.sqrt(heads.shape[-1])
    return (logits if mask is None else logits.masked_fill(~mask[:, None, None, :], -1e9)).softmax(-1)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL of every (sample, head, query)."""
    return torch.where(p > 0, p * (p / q).log(), 0.0).sum(-1)


def _over_real_queries(kl: Tensor, mask: Tensor) -> Tensor:
    return ((kl.mean(1) * mask).sum(1) / mask.sum(1)).mean()


def right(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    return _over_real_queries(_kl(_relations(teacher, mask), _relations(student, mask)), mask)


def reversed_divergence(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    return _over_real_queries(_kl(_relations(student, mask), _relations(teacher, mask)), mask)


def softmax_twice(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    p, q = (_relations(x, mask).softmax(-1) for x in (teacher, student))
    return _over_real_queries(_kl(p, q), mask)


def padding_as_keys(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    return _over_real_queries(_kl(_relations(teacher, None), _relations(student, None)), mask)


def padding_as_queries(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    return _kl(_relations(teacher, mask), _relations(student, mask)).mean()


def padded_length_in_the_normaliser(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    kl = _kl(_relations(teacher, mask), _relations(student, mask))
    return ((kl.mean(1) * mask).sum(1) / LENGTH).mean()


def mean_over_all_tokens_of_the_batch(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    kl = _kl(_relations(teacher, mask), _relations(student, mask))
    return (kl.mean(1) * mask).sum() / mask.sum()


def mean_over_keys(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    return right(student, teacher, mask) / LENGTH


def no_mean_over_heads(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    return right(student, teacher, mask) * HEADS


def epsilon_in_the_logarithm(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    p, q = _relations(teacher, mask), _relations(student, mask)
    return _over_real_queries((p * ((p + 1e-5).log() - (q + 1e-5).log())).sum(-1), mask)


def whole_width_in_the_scale(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    smaller = 1 / HEADS**0.25
    return right(student * smaller, teacher * smaller, mask)


DEFECTS: list[Callable[[Tensor, Tensor, Tensor], Tensor]] = [
    reversed_divergence, softmax_twice, padding_as_keys, padding_as_queries, padded_length_in_the_normaliser,
    mean_over_all_tokens_of_the_batch, mean_over_keys, no_mean_over_heads, epsilon_in_the_logarithm,
    whole_width_in_the_scale,
]  # fmt: skip


@pytest.mark.parametrize("backend", ["reference", "blockwise"])
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_is_caught(defect: Callable[[Tensor, Tensor, Tensor], Tensor], backend: str) -> None:
    student, teacher, mask = _case()
    loss = relation_kl((student, student), (teacher, teacher), heads=HEADS, mask=mask, backend=backend)
    assert abs(defect(student, teacher, mask) / loss - 1) > 1e-6
    torch.testing.assert_close(loss, right(student, teacher, mask), rtol=1e-12, atol=0)


def test_the_right_formula_is_that_of_the_loops() -> None:
    student, teacher, mask = _case()
    expected = loop_loss((student, student), (teacher, teacher), HEADS, mask)
    torch.testing.assert_close(right(student, teacher, mask), expected, rtol=1e-12, atol=0)
