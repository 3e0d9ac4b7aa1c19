"""TinyBERT's losses against loops, its shared lift, its refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from minilm_lab.errors import LabError
from minilm_lab.models.taps import Needs
from minilm_lab.objectives.distances import score_mse
from minilm_lab.objectives.tinybert import TinyBERTObjective

from .helpers import MASK, bert, bind, gpt2, leaves, loop_mse, loop_score_mse, views_of

STUDENT, TEACHER = bert(12, layers=2), bert(24, layers=4)
MASKS = pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])


@MASKS
@pytest.mark.parametrize(
    "settings, pairs",
    [({}, [(1, 2), (2, 4)]), ({"map": "last"}, [(2, 4)]), ({"pairs": [[2, 1], [2, 3]]}, [(2, 1), (2, 3)])],
    ids=str,
)
def test_losses(settings: dict[str, Any], pairs: list[tuple[int, int]], mask: Tensor | None) -> None:
    objective = TinyBERTObjective(0.5, 2.0, **settings)
    bound = bind(objective, STUDENT, TEACHER, 4)
    ours, theirs = (frozenset(pair[side] for pair in pairs) for side in (0, 1))
    assert bound.reads == tuple(Needs(scores=x, hidden=x | {0}) for x in (ours, theirs))
    views = views_of(bound, STUDENT, TEACHER, mask)
    found = {name: loss.detach() for name, loss in bound(views).items()}
    assert list(found) == ["loss_attention", "loss_hidden"]
    attention = [loop_score_mse(views.student.scores[s], views.teacher.scores[t], mask) for s, t in pairs]
    assert float(found["loss_attention"]) == pytest.approx(0.5 * sum(attention), rel=1e-9)
    # One lift for the embeddings and all layers, with a bias.
    assert {n: tuple(p.shape) for n, p in bound.named_parameters()} == {
        "lift.weight": (24, 12),
        "lift.bias": (24,),
    }
    matrix, bias = bound.lift.weight.detach(), bound.lift.bias.detach()
    hidden = 0.0
    for s, t in [(0, 0), *pairs]:
        lifted = torch.stack(
            [torch.stack([matrix @ x + bias for x in row]) for row in views.student.hidden[s]]
        )
        hidden += loop_mse(lifted, views.teacher.hidden[t], mask)
    assert float(found["loss_hidden"]) == pytest.approx(2 * hidden, rel=1e-9)


@MASKS
def test_a_student_that_is_the_teacher_loses_nothing_and_needs_no_lift(mask: Tensor | None) -> None:
    bound = bind(TinyBERTObjective(), TEACHER, TEACHER, 4)
    views = views_of(bound, TEACHER, TEACHER, mask, same=True)
    assert not list(bound.parameters())
    assert [float(x) for x in bound(views).values()] == [0, 0]


def test_the_gradient_by_finite_differences() -> None:
    """Of scores, hidden states and the lift."""
    bound = bind(TinyBERTObjective(map="last"), STUDENT, TEACHER, 4)
    views = views_of(bound, STUDENT, TEACHER, MASK)
    ours = [*leaves(views.student), *bound.parameters()]

    def loss(*_: Tensor) -> Tensor:
        return torch.stack(list(bound(views).values())).sum()

    assert torch.autograd.gradcheck(loss, ours, nondet_tol=0)
    loss().backward()
    assert all(x.grad is not None and x.grad.abs().max() > 0 for x in ours)
    for layer in (0, 2):
        assert (views.student.hidden[layer].grad[~MASK] == 0).all()


def test_hidden_keys_are_left_out() -> None:
    student, teacher = gpt2(12, layers=2), gpt2()
    bound = bind(TinyBERTObjective(hidden_weight=0), student, teacher, 4)
    views = views_of(bound, student, teacher, MASK, causal=True)
    ours = leaves(views.student)
    (loss,) = bound(views).values()
    expected = sum(
        loop_score_mse(views.student.scores[s].detach(), views.teacher.scores[t], MASK)
        for s, t in ((1, 2), (2, 4))
    )
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-9)
    assert all(torch.isfinite(gradient).all() for gradient in torch.autograd.grad(loss, ours))


def test_padding_may_hold_anything() -> None:
    bound = bind(TinyBERTObjective(), STUDENT, TEACHER, 4)
    views = views_of(bound, STUDENT, TEACHER, MASK)
    expected = [float(x) for x in bound(views).values()]
    real = MASK[:, None, :, None] & MASK[:, None, None, :]
    for seen in (views.student, views.teacher):
        seen.scores = {n: x.masked_fill(~real, torch.nan) for n, x in seen.scores.items()}
        seen.hidden = {n: x.masked_fill(~MASK[:, :, None], torch.nan) for n, x in seen.hidden.items()}
    assert [float(x) for x in bound(views).values()] == pytest.approx(expected)


def test_a_term_of_weight_0_reads_nothing() -> None:
    attention = bind(TinyBERTObjective(hidden_weight=0), STUDENT, TEACHER, 4)
    assert attention.reads[0] == Needs(scores=frozenset({1, 2}))
    assert not list(attention.parameters())
    hidden = TinyBERTObjective(attention_weight=0)
    bind(hidden, bert(12, 4, layers=2), TEACHER, 4)
    assert bind(hidden, STUDENT, TEACHER, 4).reads[1] == Needs(hidden=frozenset({0, 2, 4}))
    assert list(attention(views_of(attention, STUDENT, TEACHER))) == ["loss_attention"]


def test_losses_are_float32_under_autocast() -> None:
    bound = bind(TinyBERTObjective(), STUDENT, TEACHER, 4)
    views = views_of(bound, STUDENT, TEACHER, MASK, dtype=torch.bfloat16)
    bound.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = bound(views)
    assert {x.dtype for x in found.values()} == {torch.float32}


def test_refusals() -> None:
    with pytest.raises(
        LabError,
        match=r"objective\.attention_weight=1\.0 .* student has 4 .* 3; set student\.heads=3 or objective",
    ):
        TinyBERTObjective().bind(bert(12, 4, layers=2), TEACHER, 4)
    with pytest.raises(LabError, match=r"objective\.map=uniform .* 4 layers .* only 2"):
        TinyBERTObjective().bind(TEACHER, TEACHER, 2)
    with pytest.raises(LabError, match="one of attention_weight, hidden_weight must be more than 0"):
        TinyBERTObjective(0, 0)
    with pytest.raises(LabError, match=r"objective\.hidden_weight=-1 must be 0 or more"):
        TinyBERTObjective(hidden_weight=-1)
    with pytest.raises(LabError, match=r"objective\.map=lst: no such map\. Did you mean 'last'"):
        TinyBERTObjective(map="lst")


def test_identity_and_label() -> None:
    uniform = bind(TinyBERTObjective(), STUDENT, TEACHER, 4)
    assert uniform.identity() == {
        "kind": "TinyBERTObjective",
        "attention_weight": 1.0,
        "hidden_weight": 1.0,
        "pairs": [[1, 2], [2, 4]],
    }
    by_hand = bind(TinyBERTObjective(pairs=[[1, 2], [2, 4]]), STUDENT, TEACHER, 4)
    assert by_hand.identity() == uniform.identity()
    assert uniform.label() == "tinybert"
    assert bind(TinyBERTObjective(map="top"), STUDENT, TEACHER, 4).label() == "tinybert-top"


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_scores_that_one_model_alone_hides_are_left_out(who: str) -> None:
    draw = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(2, 3, 4, 4, generator=draw) for _ in range(2))
    hidden = torch.rand(2, 3, 4, 4, generator=draw) < 0.3
    one = ours if who == "student" else theirs
    one.masked_fill_(hidden, -torch.inf)
    expected = [
        (a - b) ** 2
        for a, b, h in zip(ours.flatten(), theirs.flatten(), hidden.flatten(), strict=True)
        if not h
    ]
    assert float(score_mse(ours, theirs, None)) == pytest.approx(float(sum(expected)) / len(expected))
