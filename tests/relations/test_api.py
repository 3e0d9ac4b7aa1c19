"""The public functions: arguments, dtypes, and living with autocast, torch.compile, DDP and inference mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import minilm_lab.relations
from minilm_lab.relations import BACKENDS, relation_kl, relation_kls
from minilm_lab.relations.api import available_backends

RUNNING = ["reference", "blockwise"]


def _pair(width: int = 8, length: int = 5, **options: Any) -> tuple[Tensor, Tensor]:
    return torch.randn(2, length, width, **options), torch.randn(2, length, width, **options)


X, OTHER_DTYPE = torch.randn(2, 5, 8), torch.randn(2, 5, 8, dtype=torch.float64)

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "not a pair": ({"student": X}, r"student must be a \(left, right\) tuple .* float32\(2, 5, 8\)"),
    "three of a pair": ({"teacher": (X, X, X)}, "teacher must be a"),
    "no tensor": ({"teacher": (X, 3)}, "teacher must be a .* got tuple.*3"),
    "two dimensions": ({"student": (X[0], X[0])}, r"student must hold .*\(batch, length, width\)"),
    "no token": ({"student": (X[:, :0], X[:, :0])}, "student must hold non-empty"),
    "integers": ({"student": (X.long(), X.long())}, "student must hold float32 or bfloat16 .* int64"),
    "two shapes": ({"student": (X, X[..., :4])}, "student: left and right must share shape"),
    "two dtypes": ({"teacher": (X, OTHER_DTYPE)}, "teacher: left and right must share .* float64"),
    "another length": ({"teacher": _pair(length=6)}, r"teacher must have .* \(2, 5\), got \(2, 6\)"),
    "teacher with gradient": ({"teacher": (X.clone().requires_grad_(), X)}, "teacher must not require a gradient"),
    "no heads": ({"heads": 0}, "heads must be a positive int, got 0"),
    "heads of a wrong type": ({"heads": 2.0}, "heads must be a positive int, got 2.0"),
    "heads that do not divide": ({"heads": 3}, "heads must divide the width of the student, 8; got 3"),
    "teacher heads": ({"heads": 4, "teacher": _pair(10)}, "heads must divide the width of the teacher, 10; got 4"),
    "mask of integers": ({"mask": torch.ones(2, 5).long()}, r"mask must be a \(2, 5\) tensor of bool, got int64"),
    "mask shape": ({"mask": torch.ones(2, 1, 5).bool()}, r"mask must be a \(2, 5\) tensor .*\(2, 1, 5\)"),
    "mask list": ({"mask": [[True]]}, "mask must be"),
    "causal": ({"causal": 1}, "causal must be True or False, got 1"),
    "backend": ({"backend": "cuda"}, r"backend must be one of \('auto', 'reference', 'blockwise'.*got 'cuda'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named(name: str) -> None:
    changes, message = BAD[name]
    arguments: dict[str, Any] = {"student": (X, X), "teacher": (X, X), "heads": 2} | changes
    with pytest.raises(ValueError, match=message):
        relation_kl(arguments.pop("student"), arguments.pop("teacher"), **arguments)


def test_several_relations_must_fit_together() -> None:
    with pytest.raises(ValueError, match="pairs must be a non-empty sequence"):
        relation_kls([])
    with pytest.raises(ValueError, match=r"pairs must share batch, length and device .*\(2, 6\)"):
        relation_kls([(_pair(), _pair(), 2), (_pair(length=6), _pair(length=6), 2)])


def test_a_backend_that_the_device_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert available_backends(torch.device("cpu")) == ("reference", "blockwise")
    with pytest.raises(ValueError, match=r"one of \('auto', 'reference', 'blockwise'\) on cpu, got 'triton'"):
        relation_kl((X, X), (X, X), heads=2, backend="triton")


def test_names() -> None:
    assert BACKENDS == ("auto", "reference", "blockwise", "triton")
    assert sorted(minilm_lab.relations.__all__) == ["BACKENDS", "attention_kl", "relation_kl", "relation_kls"]


@pytest.mark.parametrize("backend", ["auto", *RUNNING])
def test_several_at_once_equal_one_by_one(backend: str) -> None:
    q, k = _pair(12, requires_grad=True)
    t, wide = _pair(12)[0], _pair(24)[0]
    pairs = [((q, k), (t, t), 3), ((k, k), (wide, wide), 4), ((q, q), (t, t), 1)]
    losses = relation_kls(pairs, backend=backend)
    assert losses.shape == (3,) and losses.dtype == torch.float32
    single = torch.stack([relation_kl(s, t, heads=h, backend=backend) for s, t, h in pairs])
    torch.testing.assert_close(losses, single)
    weights = torch.tensor([1.0, 0.5, 2.0])
    together = torch.autograd.grad((weights * losses).sum(), (q, k))
    torch.testing.assert_close(together, torch.autograd.grad((weights * single).sum(), (q, k)))


@pytest.mark.parametrize("backend", RUNNING)
def test_a_loss_without_gradient(backend: str) -> None:
    (q, k), teacher = _pair(requires_grad=True), _pair()
    expected = relation_kl((q, k), teacher, heads=2, backend=backend)
    with torch.no_grad():
        loss = relation_kl((q, k), teacher, heads=2, backend=backend)
    assert (
        not loss.requires_grad and not relation_kl(_pair(), teacher, heads=2, backend=backend).requires_grad
    )
    torch.testing.assert_close(loss, expected.detach())
    only_left = torch.autograd.grad(relation_kl((q, k.detach()), teacher, heads=2, backend=backend), q)
    torch.testing.assert_close(only_left, torch.autograd.grad(expected, q))


@pytest.mark.parametrize("backend", RUNNING)
def test_a_teacher_of_inference_mode(backend: str) -> None:
    (q, k), teacher = _pair(requires_grad=True), _pair()
    expected = torch.autograd.grad(relation_kl((q, k), teacher, heads=2, backend=backend), (q, k))
    with torch.inference_mode():
        frozen = (teacher[0] * 1.0, teacher[1] * 1.0)
    torch.testing.assert_close(
        torch.autograd.grad(relation_kl((q, k), frozen, heads=2, backend=backend), (q, k)), expected
    )


@pytest.mark.parametrize("backend", RUNNING)
def test_autocast_does_not_lower_the_precision(backend: str) -> None:
    student, teacher = _pair(requires_grad=True), _pair()
    expected = relation_kl(student, teacher, heads=2, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        loss = relation_kl(student, teacher, heads=2, backend=backend)
        projected = torch.nn.functional.linear(student[0], torch.eye(8))
        assert projected.dtype == torch.bfloat16
        relation_kl((projected, projected), teacher, heads=2, backend=backend).backward()
    assert torch.equal(loss, expected) and student[0].grad is not None


@pytest.mark.parametrize("backend", RUNNING)
def test_a_teacher_of_another_dtype(backend: str) -> None:
    student, teacher = _pair(requires_grad=True), _pair(12)
    low = (teacher[0].bfloat16(), teacher[1].bfloat16())
    same = (low[0].float(), low[1].float())
    loss = relation_kl(student, low, heads=2, backend=backend)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, relation_kl(student, same, heads=2, backend=backend))


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_op_keeps_the_contract_of_custom_ops(symmetric: bool) -> None:
    """Schema, fake tensors, autograd registration and torch.compile's tracing."""
    q, k = _pair(requires_grad=True)
    sides = ([q], [k.detach()]) if symmetric else ([q, k], list(_pair()))
    mask = torch.tensor([[1, 1, 1, 1, 0], [0, 1, 1, 1, 1]]).bool()
    torch.library.opcheck(torch.ops.minilm_lab.relation_kl_blockwise.default, (*sides, 2, mask, False, True))


def test_compiled_step_equals_the_plain_one() -> None:
    """The op is one node of the graph, forward and backward, with no break."""
    torch.manual_seed(0)
    layer, x, teacher = torch.nn.Linear(8, 24), torch.randn(2, 5, 8), _pair()

    def step(x: Tensor) -> Tensor:
        q, k, v = layer(x).chunk(3, dim=-1)
        pairs = [((q, k), teacher, 2), ((v, v), (teacher[0], teacher[0]), 4)]
        return relation_kls(pairs, backend="blockwise").sum()

    expected = torch.autograd.grad(step(x), list(layer.parameters()))
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(x), list(layer.parameters())), expected)


def test_under_ddp(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer, x, teacher = torch.nn.Linear(8, 8), torch.randn(2, 5, 8), _pair()

    def gradient(model: torch.nn.Module) -> Tensor:
        layer.zero_grad()
        hidden = model(x)
        relation_kl((hidden, hidden), teacher, heads=2).backward()
        assert layer.weight.grad is not None
        return layer.weight.grad.clone()

    expected = gradient(layer)
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        torch.testing.assert_close(gradient(torch.nn.parallel.DistributedDataParallel(layer)), expected)
    finally:
        torch.distributed.destroy_process_group()
