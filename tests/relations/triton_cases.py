"""The Triton kernels against the loops: on a GPU if there is one, else in Triton's interpreter.

Run by test_triton.py in a process of its own, since the interpreter must be chosen before Triton is imported.
By hand: TRITON_INTERPRET=1 pytest tests/relations/triton_cases.py
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from minilm_lab.relations import relation_kl, relation_kls, triton_launch

from .cases import CASES, PLAIN, Case, check
from .curves import loss_curve

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of 16, so that a dozen tokens already take several tiles."""
    original = triton_launch.block_sizes

    def small(*arguments: Any) -> dict[str, int]:
        return original(*arguments) | {"OWN": 16, "OTHER": 16}

    monkeypatch.setattr(triton_launch, "block_sizes", small)


@pytest.fixture(autouse=True)
def products_of_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter holds bfloat16 as the integers of its bits and would multiply those."""
    if not INTERPRETED:
        return
    from triton.runtime import interpreter

    original = interpreter.InterpreterBuilder.create_dot

    def number(x: Any) -> Any:
        if x.dtype.scalar.name != "bf16":
            return x
        bits = x.data.astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), interpreter.tl.float32)

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return original(self, number(a), number(b), *rest)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", create_dot)


@pytest.mark.parametrize("name", CASES)
def test_float32_keeps_five_digits(name: str) -> None:
    check(replace(CASES[name], dtype=torch.float32), "triton", 1e-5, DEVICE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["pair qq", "pair qk", "everything", "teacher wider"])
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    check(replace(CASES[name], dtype=dtype), "triton", 2e-2, DEVICE)


LONG = Case(batch=2, length=37, size=6, their_size=10, dtype=torch.float32)


@pytest.mark.parametrize("pair", ["qq", "qk"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"causal": True},
        {"masked": "left"},
        {"masked": "holes"},
        {"masked": "both", "causal": True},
    ],
    ids=str,
)
def test_several_tiles(pair: str, changes: dict[str, Any]) -> None:
    check(replace(LONG, pair=pair, **changes), "triton", 1e-5, DEVICE)


@pytest.mark.parametrize("own, other", [(16, 32), (32, 16)])
def test_tiles_that_are_not_square(own: int, other: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original = triton_launch.block_sizes
    monkeypatch.setattr(
        triton_launch, "block_sizes", lambda *sizes: original(*sizes) | {"OWN": own, "OTHER": other}
    )
    for pair in ("qq", "qk"):
        check(replace(LONG, pair=pair, causal=True, masked="both"), "triton", 1e-5, DEVICE)


@pytest.mark.parametrize("pair", ["qq", "qk"])
def test_large_logits(pair: str) -> None:
    check(replace(LONG, pair=pair, scale=1e4, batch=1), "triton", 1e-5, DEVICE)


@pytest.mark.parametrize("pair", ["qq", "qk"])
def test_student_that_equals_the_teacher_is_at_zero(pair: str) -> None:
    student, _, _ = replace(LONG, their_size=6, pair=pair).draw(DEVICE)
    teacher = (student[0].detach(), student[1].detach())
    loss = relation_kl(student, teacher, heads=2, backend="triton")
    gradients = torch.autograd.grad(loss, list({id(x): x for x in student}.values()))
    assert loss == 0 and all((gradient == 0).all() for gradient in gradients)


def test_padding_may_hold_anything() -> None:
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]], device=DEVICE).bool()
    x, y = (torch.randn(2, 5, 8, device=DEVICE) for _ in range(2))

    def result(fill: float) -> tuple[Tensor, Tensor]:
        left, right = (z.masked_fill(~mask[:, :, None], fill).requires_grad_() for z in (x, x.flip(0)))
        teacher = (y.masked_fill(~mask[:, :, None], fill),) * 2
        loss = relation_kl((left, right), teacher, heads=2, mask=mask, backend="triton")
        return loss, torch.stack(torch.autograd.grad(loss, (left, right)))

    for rubbish in (torch.inf, torch.nan):
        torch.testing.assert_close(result(rubbish), result(0.0))


def test_sequences_of_padding() -> None:
    x, y = torch.randn(2, 5, 8, device=DEVICE, requires_grad=True), torch.randn(2, 5, 8, device=DEVICE)
    mask = torch.ones(2, 5, dtype=torch.bool, device=DEVICE)
    mask[0] = False
    loss = relation_kl((x, x), (y, y), heads=2, mask=mask, backend="triton")
    alone = relation_kl((x[1:], x[1:]), (y[1:], y[1:]), heads=2, backend="reference")
    torch.testing.assert_close(loss, alone)
    none = relation_kl((x, x), (y, y), heads=2, mask=mask & False, backend="triton")
    (gradient,) = torch.autograd.grad(none, x)
    assert none == 0 and (gradient == 0).all()


def test_relations_alike_share_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three symmetric relations: one forward and one backward. MiniLM's (Q, K) and (V, V): one each."""
    launches: list[tuple[int, ...]] = []
    original = triton_launch.Launch.forward

    def spy(self: Any, *arguments: Any) -> Any:
        launches.append(self.grid)
        return original(self, *arguments)

    monkeypatch.setattr(triton_launch.Launch, "forward", spy)
    q, k, v = torch.randn(2, 5, 24, device=DEVICE, requires_grad=True).chunk(3, dim=-1)
    a, b, c = torch.randn(2, 5, 48, device=DEVICE).chunk(3, dim=-1)
    for pairs, expected_launches in (
        ([((q, q), (a, a), 2), ((k, k), (b, b), 2), ((v, v), (c, c), 2)], 1),
        ([((q, k), (a, b), 2), ((v, v), (c, c), 2)], 2),
        ([((q, q), (a, a), 2), ((k, k), (b, b), 4)], 2),
    ):
        launches.clear()
        losses = relation_kls(pairs, backend="triton")
        assert len(launches) == expected_launches
        expected = relation_kls(pairs, backend="reference")
        torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-6)
        # Each loss with a weight of its own, as an objective adds them.
        weights = torch.arange(1.0, 1 + len(pairs), device=DEVICE)
        got = torch.autograd.grad((weights * losses).sum(), (q, k, v), allow_unused=True)
        want = torch.autograd.grad((weights * expected).sum(), (q, k, v), allow_unused=True)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_tensors_of_different_layouts() -> None:
    left = torch.randn(2, 5, 16, device=DEVICE)[..., :8].requires_grad_()
    right = torch.randn(5, 2, 8, device=DEVICE).transpose(0, 1).requires_grad_()
    spread = torch.randn(2, 8, 5, device=DEVICE).mT
    student, teacher = (left, right), (spread, left.detach())
    loss = relation_kl(student, teacher, heads=2, backend="triton")
    expected = relation_kl(student, teacher, heads=2, backend="reference")
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, student), torch.autograd.grad(expected, student))


def test_mixed_dtypes_and_inference_mode() -> None:
    x = torch.randn(2, 5, 8, device=DEVICE, requires_grad=True)
    with torch.inference_mode():
        y = torch.randn(2, 5, 12, device=DEVICE).bfloat16()
    loss = relation_kl((x, x), (y, y), heads=2, backend="triton")
    expected = relation_kl((x, x), (y, y), heads=2, backend="reference")
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, x), torch.autograd.grad(expected, x))


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_op_keeps_the_contract_of_custom_ops(symmetric: bool) -> None:
    x, k = (torch.randn(2, 5, 8, device=DEVICE, requires_grad=True) for _ in range(2))
    y, z = (torch.randn(2, 5, 8, device=DEVICE) for _ in range(2))
    rights = ([], []) if symmetric else ([k], [z])
    weights = torch.full((2,), 0.05, device=DEVICE)
    arguments = ([x], rights[0], [y], rights[1], weights, 2, None, False)
    torch.library.opcheck(torch.ops.minilm_lab.relation_kl_triton.default, arguments)


def test_compiled_step_equals_the_plain_one() -> None:
    layer = torch.nn.Linear(8, 24).to(DEVICE)
    x, teacher = torch.randn(2, 5, 8, device=DEVICE), torch.randn(2, 5, 8, device=DEVICE)

    def step(x: Tensor) -> Tensor:
        q, k, v = layer(x).chunk(3, dim=-1)
        pairs = [((q, k), (teacher, teacher), 2), ((v, v), (teacher, teacher), 2)]
        return relation_kls(pairs, backend="triton").sum()

    expected = torch.autograd.grad(step(x), list(layer.parameters()))
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(x), list(layer.parameters())), expected)


def test_under_autocast() -> None:
    x = torch.randn(2, 5, 8, device=DEVICE, requires_grad=True)
    y = torch.randn(2, 5, 8, device=DEVICE)
    with torch.autocast(DEVICE, torch.bfloat16):
        loss = relation_kl((x, x), (y, y), heads=2, backend="triton")
    torch.testing.assert_close(loss, relation_kl((x, x), (y, y), heads=2, backend="reference"))


def test_what_the_kernels_do_not_take() -> None:
    wide, exact = torch.randn(1, 2, 300, device=DEVICE), torch.randn(1, 2, 8, device=DEVICE).double()
    with pytest.raises(ValueError, match=r"'triton' does not take heads of 150 features, more than 128"):
        relation_kl((wide, wide), (wide, wide), heads=2, backend="triton")
    with pytest.raises(ValueError, match="'triton' does not take float64"):
        relation_kl((exact, exact), (exact, exact), heads=2, backend="triton")
    assert relation_kl((exact, exact), (exact, exact), heads=2) == 0


def test_the_largest_head() -> None:
    check(
        replace(PLAIN, pair="qk", size=128, their_size=100, dtype=torch.float32, batch=1),
        "triton",
        1e-5,
        DEVICE,
    )


def test_the_curve_does_not_depend_on_the_backend() -> None:
    steps = 20 if INTERPRETED else 200
    torch.testing.assert_close(
        loss_curve("triton", DEVICE, steps), loss_curve("reference", DEVICE, steps), rtol=1e-3, atol=0
    )
