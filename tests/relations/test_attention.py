"""The KL of true scores against relation_kl, loops, and at the edges: hidden keys, padding, empty sequences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from minilm_lab.relations import attention_kl, relation_kl

from .cases import CASES, Case
from .loops import loop_loss_and_gradients


def scores_of(pair: tuple[Tensor, Tensor], heads: int, causal: bool) -> Tensor:
    """QKᵀ/√d of every head."""
    left, right = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in pair)
    scores = left @ right.transpose(-1, -2) / math.sqrt(left.shape[-1])
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    return scores


@pytest.mark.parametrize("name", CASES)
def test_equals_the_relation_of_queries_and_keys(name: str) -> None:
    """Value and gradient, through the scores, of every case of relation_kl."""
    case = CASES[name]
    student, teacher, settings = case.draw()
    causal, mask = settings["causal"], settings["mask"]
    ours, theirs = scores_of(student, case.heads, causal), scores_of(teacher, case.heads, causal)
    loss = attention_kl(ours, theirs, mask)
    leaves = list({id(x): x for x in student}.values())
    gradients = torch.autograd.grad(loss, leaves)
    expected = relation_kl(student, teacher, heads=case.heads, mask=mask, causal=causal, backend="reference")
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-15)
    wanted = torch.autograd.grad(expected, leaves)
    torch.testing.assert_close(gradients, wanted, rtol=1e-10, atol=1e-15)
    by_loops, loop_gradients = loop_loss_and_gradients(student, teacher, case.heads, mask=mask, causal=causal)
    torch.testing.assert_close(loss.detach(), by_loops, rtol=1e-10, atol=1e-15)
    torch.testing.assert_close(list(gradients), loop_gradients, rtol=1e-9, atol=1e-15)


def loops(student: Tensor, teacher: Tensor, mask: Tensor) -> float:
    """Rows one by one, over the keys that are real and not hidden."""
    sequences = []
    for b in range(len(student)):
        real = [i for i in range(mask.shape[1]) if mask[b, i]]
        total = 0.0
        for head in range(student.shape[1]):
            for i in real:
                keys = [j for j in real if teacher[b, head, i, j] > -math.inf]
                t, s = teacher[b, head, i, keys], student[b, head, i, keys]
                log_p, log_q = t - t.logsumexp(0), s - s.logsumexp(0)
                total += float((log_p.exp() * (log_p - log_q)).sum())
        if real:
            sequences.append(total / student.shape[1] / len(real))
    return sum(sequences) / len(sequences)


def case_with_holes() -> tuple[Tensor, Tensor, Tensor]:
    """Scores that no projections give, with hidden keys, padding on both sides, and an empty sequence."""
    generator = torch.Generator().manual_seed(3)
    student, teacher = (torch.randn(4, 2, 6, 6, generator=generator).double() * 3 for _ in range(2))
    window = (torch.arange(6)[:, None] - torch.arange(6)).abs() > 2
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [0] * 6, [1] * 6]).bool()
    return student.masked_fill(window, -torch.inf), teacher.masked_fill(window, -torch.inf), mask


def test_hidden_keys_against_loops() -> None:
    student, teacher, mask = case_with_holes()
    assert float(attention_kl(student, teacher, mask)) == pytest.approx(
        loops(student, teacher, mask), rel=1e-10
    )


def test_hidden_and_padded_entries_have_no_gradient() -> None:
    student, teacher, mask = case_with_holes()
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(attention_kl(student, teacher, mask), student)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
    real = mask[:, None, :, None] & mask[:, None, None, :] & (student > -torch.inf)
    assert (gradient[~real.expand_as(gradient)] == 0).all()
    torch.testing.assert_close(gradient.sum(dim=3), torch.zeros(4, 2, 6).double(), atol=1e-15, rtol=0)


def test_a_key_that_the_teacher_alone_hides_still_has_a_gradient() -> None:
    """q_j − 0: the student must learn not to look there."""
    teacher = torch.tensor([0.5, -torch.inf, 0.1]).repeat(1, 1, 3, 1).double()
    student = torch.zeros(1, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(attention_kl(student, teacher), student)
    expected = (student.softmax(-1) - teacher.softmax(-1)) / 3
    torch.testing.assert_close(gradient, expected.detach())
    assert gradient[0, 0, 0, 1] > 0


def test_a_key_that_the_student_alone_hides_costs_infinitely_much() -> None:
    teacher = torch.zeros(1, 1, 2, 2)
    student = torch.tensor([[[[0.0, -torch.inf], [0.0, 0.0]]]])
    assert attention_kl(student, teacher) == torch.inf


def test_padding_may_hold_anything() -> None:
    student, teacher, mask = case_with_holes()
    loss = attention_kl(student, teacher, mask)
    hidden = ~(mask[:, None, :, None] & mask[:, None, None, :])
    for rubbish in (1e30, torch.inf, torch.nan):
        dirty = student.masked_fill(hidden, rubbish).requires_grad_()
        again = attention_kl(dirty, teacher.masked_fill(hidden, rubbish), mask)
        torch.testing.assert_close(again, loss)
        (gradient,) = torch.autograd.grad(again, dirty)
        assert torch.isfinite(gradient).all()


def test_nothing_but_padding_is_zero() -> None:
    student = torch.randn(2, 2, 3, 3, requires_grad=True)
    loss = attention_kl(student, torch.randn(2, 2, 3, 3), torch.zeros(2, 3, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and student.grad is not None and (student.grad == 0).all()


def test_a_student_that_equals_the_teacher_is_at_zero() -> None:
    student, _, mask = case_with_holes()
    student = student.float().requires_grad_()
    loss = attention_kl(student, student.detach(), mask)
    assert loss == 0
    assert float(torch.autograd.grad(loss, student)[0].abs().max()) < 1e-7


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_is_summed_in_float32(dtype: torch.dtype) -> None:
    case = Case(pair="qk", length=12)
    student, teacher, _ = case.draw()
    ours, theirs = (scores_of(x, 2, False).detach().to(dtype) for x in (student, teacher))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = attention_kl(ours, theirs)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), attention_kl(ours.double(), theirs.double()), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "student, teacher, mask, message",
    [
        ((2, 3, 4), (2, 3, 4), None, r"student_scores must be a float \(batch, heads, length, length\)"),
        ((1, 2, 3, 4), (1, 2, 3, 4), None, "student_scores must be"),
        (
            (1, 2, 3, 3),
            (1, 4, 3, 3),
            None,
            r"shape and device of student_scores, \(1, 2, 3, 3\).*\(1, 4, 3, 3\)",
        ),
        ((1, 2, 3, 3), (1, 2, 3, 3), (1, 2), r"mask must be a \(1, 3\)"),
    ],
)
def test_refusals(
    student: tuple[int, ...], teacher: tuple[int, ...], mask: tuple[int, ...] | None, message: str
) -> None:
    real = None if mask is None else torch.ones(mask, dtype=torch.bool)
    with pytest.raises(ValueError, match=message):
        attention_kl(torch.zeros(student), torch.zeros(teacher), real)


def test_a_probability_that_underflows_costs_nothing_where_the_student_hides_the_key() -> None:
    """exp(−200) is 0 in float32: 0 × ∞ would be NaN."""
    teacher = torch.tensor([0.0, -200.0]).repeat(1, 1, 2, 1)
    student = torch.tensor([0.0, -torch.inf]).repeat(1, 1, 2, 1).requires_grad_()
    loss = attention_kl(student, teacher)
    (gradient,) = torch.autograd.grad(loss, student)
    assert float(loss.detach()) == 0 and torch.isfinite(gradient).all()


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher = (torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
    teacher.requires_grad_()
    attention_kl(student.requires_grad_(), teacher).backward()
    assert teacher.grad is None and student.grad is not None
