"""What must hold exactly or at the edges: equal models, padding, empty sequences, tiny gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from minilm_lab.relations import relation_kl

from .cases import PLAIN, Case

BACKENDS = ["reference", "blockwise"]
pytestmark = pytest.mark.parametrize("backend", BACKENDS)


def _loss_and_gradient(x: Tensor, y: Tensor, **settings: object) -> tuple[Tensor, Tensor]:
    x = x.detach().clone().requires_grad_()
    loss = relation_kl((x, x), (y, y), heads=2, **settings)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(loss, x)
    return loss.detach(), gradient


@pytest.mark.parametrize("pair", ["qq", "qk"])
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("masked", ["none", "both"])
@pytest.mark.parametrize("causal", [False, True])
def test_student_that_equals_the_teacher_is_at_zero(
    pair: str, scale: float, masked: str, causal: bool, backend: str
) -> None:
    case = Case(pair=pair, scale=scale, masked=masked, causal=causal, dtype=torch.float32, length=12)
    student, _, settings = case.draw()
    teacher = (student[0].detach(), student[1].detach())
    loss = relation_kl(student, teacher, heads=case.heads, backend=backend, **settings)
    gradients = torch.autograd.grad(loss, list({id(x): x for x in student}.values()))
    assert loss == 0
    assert all(float(gradient.abs().max()) <= 1e-7 * scale for gradient in gradients)


def test_never_negative(backend: str) -> None:
    """Close to the teacher the divergence is tiny, and rounding must not turn it negative by much."""
    student, _, _ = replace(PLAIN, dtype=torch.float32, length=30).draw()
    teacher = (student[0].detach() * 1.001,) * 2
    assert -1e-8 < relation_kl(student, teacher, heads=2, backend=backend) < 1e-4


def test_padding_may_hold_anything(backend: str) -> None:
    x, y = torch.randn(2, 6, 8), torch.randn(2, 6, 8)
    mask = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]]).bool()
    loss, gradient = _loss_and_gradient(x, y, mask=mask, backend=backend)
    for rubbish in (0.0, 1e30, torch.inf, torch.nan):
        dirty = [z.masked_fill(~mask[:, :, None], rubbish) for z in (x, y)]
        again, gradient_again = _loss_and_gradient(*dirty, mask=mask, backend=backend)
        torch.testing.assert_close((again, gradient_again), (loss, gradient))
        assert (gradient_again[~mask] == 0).all()


@pytest.mark.parametrize("place", [0, 3])
def test_padding_equals_shorter_sequences(place: int, backend: str) -> None:
    """Every sequence by itself, without padding, gives the terms that the batch averages."""
    tokens = (1, 5, 8)
    x, y = torch.randn(3, 12, 8).double(), torch.randn(3, 12, 8).double()
    mask = torch.zeros(3, 12, dtype=torch.bool)
    alone = []
    for b, n in enumerate(tokens):
        mask[b, place : place + n] = True
        part = [z[b : b + 1, place : place + n] for z in (x, y)]
        alone.append(_loss_and_gradient(*part, backend=backend)[0])
    loss, _ = _loss_and_gradient(x, y, mask=mask, backend=backend)
    torch.testing.assert_close(loss, torch.stack(alone).mean())


def test_sequence_of_padding_is_not_counted(backend: str) -> None:
    x, y = torch.randn(3, 6, 8).double(), torch.randn(3, 6, 8).double()
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[1] = False
    loss, gradient = _loss_and_gradient(x, y, mask=mask, backend=backend)
    rest = [z[[0, 2]] for z in (x, y)]
    expected, expected_gradient = _loss_and_gradient(*rest, backend=backend)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient[[0, 2]], expected_gradient)
    assert (gradient[1] == 0).all()


def test_nothing_but_padding_is_zero(backend: str) -> None:
    x, y = torch.randn(2, 4, 8), torch.randn(2, 4, 8)
    loss, gradient = _loss_and_gradient(x, y, mask=torch.zeros(2, 4, dtype=torch.bool), backend=backend)
    assert loss == 0 and (gradient == 0).all()


def test_one_real_token_is_zero(backend: str) -> None:
    """It relates to itself alone, in both models."""
    mask = torch.zeros(2, 4, dtype=torch.bool)
    mask[:, 2] = True
    loss, gradient = _loss_and_gradient(
        torch.randn(2, 4, 8), torch.randn(2, 4, 8), mask=mask, backend=backend
    )
    assert abs(float(loss)) < 1e-6 and float(gradient.abs().max()) < 1e-7


def test_float16_gradients_survive_under_a_loss_scale(backend: str) -> None:
    """Close to the teacher, gradients are far below float16's least normal number until they are scaled."""
    x = torch.randn(4, 64, 8).half()
    y = (x + 0.01 * torch.randn(4, 64, 8)).half()
    exact = _loss_and_gradient(x.double(), y.double(), backend=backend)[1]
    assert float(exact.abs().median()) < 1e-5
    leaf = x.clone().requires_grad_()
    (relation_kl((leaf, leaf), (y, y), heads=2, backend=backend) * 2.0**14).backward()
    assert leaf.grad is not None
    scaled = leaf.grad.double() / 2.0**14
    assert float((scaled - exact).norm() / exact.norm()) < 1e-3
