"""Losses in chunks against written-out ones over all logits, in float64, values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM

from minilm_lab.errors import LabError
from minilm_lab.models.causal import head_of
from minilm_lab.models.next_token import DIVERGENCES, Head, Top, next_token_loss, top_of
from minilm_lab.models.self_check import self_check
from minilm_lab.models.tapped import Tapped
from minilm_lab.models.taps import Needs

from .helpers import SHAPE, drawn

N, D, V = 11, 6, 13


def logits_of(h: Tensor, some: Head) -> Tensor:
    z = h @ some.weight.T + (0 if some.bias is None else some.bias)
    z = z * some.scale
    return z if some.cap is None else some.cap * torch.tanh(z / some.cap)


def written_out(
    hidden: Tensor,
    head: Head,
    labels: Tensor | None,
    teacher: tuple[Tensor, Head] | None,
    divergence: str = "forward_kl",
    mix: float = 0.5,
    temperature: float = 1.0,
    soft_weight: float = 1.0,
    hard_weight: float = 1.0,
) -> tuple[Tensor, Tensor]:
    def kl(a: Tensor, b: Tensor) -> Tensor:
        return (a * (a / b).log()).sum(1).mean()

    z = logits_of(hidden, head)
    soft = hard = z.new_zeros(())
    if labels is not None:
        hard = hard_weight * F.cross_entropy(z, labels)
    if teacher is not None:
        p = (logits_of(*teacher) / temperature).softmax(1)
        q = (z / temperature).softmax(1)
        m = mix * p + (1 - mix) * q
        value = {
            "forward_kl": lambda: kl(p, q),
            "reverse_kl": lambda: kl(q, p),
            "jsd": lambda: mix * kl(p, m) + (1 - mix) * kl(q, m),
            "skew_forward_kl": lambda: kl(p, m),
            "skew_reverse_kl": lambda: kl(q, mix * q + (1 - mix) * p),
        }[divergence]()
        soft = soft_weight * temperature**2 * value
    return soft, hard


def case(bias: bool = True, tied: bool = False, cap: float | None = None, dtype: Any = torch.float64) -> Any:
    """Leaves of the student, a function of them that gives (hidden, head), labels, teacher."""
    g = torch.Generator().manual_seed(4)

    def new(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    table = new(V, D).requires_grad_()
    b = new(V).requires_grad_() if bias else None
    x = torch.randint(V, (N,), generator=g) if tied else new(N, D).requires_grad_()
    leaves = [leaf for leaf in (table, b, x) if leaf is not None and leaf.requires_grad]

    def student() -> tuple[Tensor, Head]:
        hidden = torch.tanh(table[x]) if tied else x
        return hidden, Head(table, b, 0.7, cap)

    labels = torch.randint(V, (N,), generator=g)
    return leaves, student, labels, (new(N, 4), Head(new(V, 4), new(V), 1.3, cap))


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("bias", "cap"), [(True, None), (False, 2.0)])
@pytest.mark.parametrize("rows", [1, 4, 100])
def test_values_and_gradients(divergence: str, tied: bool, bias: bool, cap: float | None, rows: int) -> None:
    leaves, student, labels, teacher = case(bias, tied, cap)
    options = {
        "divergence": divergence,
        "mix": 0.3,
        "temperature": 1.7,
        "soft_weight": 0.6,
        "hard_weight": 0.9,
    }
    expected = written_out(*student(), labels, teacher, **options)
    wanted = torch.autograd.grad(3 * sum(expected), leaves)
    losses = next_token_loss(*student(), labels, teacher, elements=rows * V, **options)
    for loss, value in zip(losses, expected, strict=True):
        torch.testing.assert_close(loss, value, rtol=1e-12, atol=1e-12)
    for gradient, value in zip(torch.autograd.grad(3 * sum(losses), leaves), wanted, strict=True):
        torch.testing.assert_close(gradient, value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_gradcheck(divergence: str) -> None:
    leaves, _, labels, teacher = case()
    table, bias, hidden = leaves

    def total(h: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return sum(  # type: ignore[return-value]
            next_token_loss(h, Head(w, b, 1.0, 3.0), labels, teacher, divergence=divergence, elements=3 * V)
        )

    assert torch.autograd.gradcheck(total, (hidden, table, bias))


@pytest.mark.parametrize("hard_weight", [0.0, 1.0])
def test_each_part_alone(hard_weight: float) -> None:
    leaves, student, labels, teacher = case()
    soft, hard = next_token_loss(*student(), labels, teacher, hard_weight=hard_weight)
    assert (hard == 0) == (hard_weight == 0) and soft > 0
    soft, hard = next_token_loss(*student(), labels)
    torch.testing.assert_close(hard, written_out(*student(), labels, None)[1])
    assert soft == 0
    torch.autograd.grad(soft + hard, leaves)


def test_nothing_flows_where_nothing_is_asked_for() -> None:
    (table, bias, hidden), _, labels, teacher = case()
    frozen = Head(table.detach(), bias.detach())
    (gradient,) = torch.autograd.grad(sum(next_token_loss(hidden, frozen, labels, teacher)), [hidden])  # type: ignore[arg-type]
    expected = written_out(hidden, frozen, labels, teacher)
    torch.testing.assert_close(gradient, torch.autograd.grad(sum(expected), [hidden])[0])  # type: ignore[arg-type]


def test_a_student_like_its_teacher_costs_nothing() -> None:
    for divergence in DIVERGENCES:
        _, student, _, _ = case(dtype=torch.float32)
        hidden, head = student()
        soft, _ = next_token_loss(hidden, head, None, (hidden, head), divergence=divergence)
        assert abs(soft.item()) < 1e-6


def test_no_positions_cost_nothing_and_backward_runs() -> None:
    (table, bias, hidden), _, labels, teacher = case()
    none = slice(0, 0)
    soft, hard = next_token_loss(
        hidden[none], Head(table, bias), labels[none], (teacher[0][none], teacher[1])
    )
    assert soft == hard == 0
    (soft + hard).backward()
    assert hidden.grad is not None and not hidden.grad.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_narrow_inputs(dtype: torch.dtype) -> None:
    leaves, student, labels, teacher = case(dtype=dtype)
    wide = [leaf.detach().double().requires_grad_() for leaf in leaves]
    table, bias, hidden = wide
    other = (teacher[0].double(), Head(*(x.double() for x in teacher[1][:2]), 1.3))
    expected = written_out(hidden, Head(table, bias, 0.7), labels, other)
    losses = next_token_loss(*student(), labels, teacher, elements=4 * V)
    rtol = {torch.bfloat16: 2e-2, torch.float16: 2e-3, torch.float32: 1e-5}[dtype]
    for loss, value in zip(losses, expected, strict=True):
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss.double(), value, rtol=rtol, atol=rtol)
    gradients = torch.autograd.grad(sum(losses), leaves)
    for gradient, value in zip(gradients, torch.autograd.grad(sum(expected), wide), strict=True):
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient.double(), value, rtol=rtol, atol=rtol)


def test_under_autocast_the_loss_is_the_librarys() -> None:
    (table, _, hidden), _, labels, _ = case(bias=True, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        soft, loss = next_token_loss(hidden, Head(table), labels)
        expected = F.cross_entropy(F.linear(hidden, table).float(), labels)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    ours = torch.autograd.grad(soft + loss, [hidden, table])
    for gradient, value in zip(ours, torch.autograd.grad(expected, [hidden, table]), strict=True):
        torch.testing.assert_close(gradient, value, rtol=2e-2, atol=2e-3)


def test_all_logits_never_exist() -> None:
    """Peak memory: a chunk's logits, not those of all positions."""
    hidden = torch.randn(512, 8, requires_grad=True)
    table = torch.randn(4096, 8, requires_grad=True)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    with Watch():
        soft, hard = next_token_loss(
            hidden,
            Head(table),
            torch.zeros(512, dtype=torch.long),
            (hidden.detach(), Head(table.detach())),
            elements=16 * 4096,
        )
        (soft + hard).backward()
    assert largest <= 16 * 4096


def test_without_gradients_none_are_made() -> None:
    _, student, labels, teacher = case()
    with torch.no_grad():
        losses = next_token_loss(*student(), labels, teacher)
    assert not any(loss.requires_grad for loss in losses)
    torch.testing.assert_close(losses, written_out(*student(), labels, teacher))


FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("gpt2", {}),
    ("llama", {}),
    ("gemma2", {"head_dim": 6, "final_logit_softcapping": 5.0, "num_key_value_heads": 3}),
    ("granite", {"logits_scaling": 4.0}),
    ("cohere", {"logit_scale": 0.25}),
]


@pytest.mark.parametrize(("kind", "settings"), FAMILIES)
def test_the_head_of_a_model_is_read(kind: str, settings: dict[str, Any]) -> None:
    config = AutoConfig.for_model(kind, **{**SHAPE, "eos_token_id": 2, "bos_token_id": 1, **settings})
    model = drawn(AutoModelForCausalLM.from_config(config), 0)
    ids = torch.arange(20, 60).view(2, 20)
    out = model(input_ids=ids, output_hidden_states=True)
    loss = sum(
        next_token_loss(out.hidden_states[-1][:, :-1].flatten(0, 1), head_of(model), ids[:, 1:].flatten())
    )
    expected = F.cross_entropy(out.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    parameters = list(model.parameters())
    ours = torch.autograd.grad(loss, parameters, retain_graph=True)  # type: ignore[arg-type]
    for gradient, value in zip(ours, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(gradient, value, rtol=1e-3, atol=1e-4)


def test_a_head_that_does_more_is_refused() -> None:
    model = drawn(AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SHAPE)), 0).eval()
    view = Tapped(model, Needs(next_tokens=True))
    assert self_check(view, 100) < 1e-3
    model.lm_head.register_forward_hook(lambda _module, _inputs, logits: logits**2)
    with pytest.raises(LabError, match="next-token logits"):
        self_check(view, 100)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("rows", [1, 4, 100])
def test_of_the_likeliest_tokens_the_loss_is_that_of_buckets(divergence: str, tied: bool, rows: int) -> None:
    leaves, student, labels, teacher = case(tied=tied, cap=2.0)
    top = top_of(*teacher, 3, elements=rows * V)
    logits = teacher[1].logits(teacher[0])
    for n, row in enumerate(logits.softmax(1).tolist()):  # written out, a row at a time
        order = sorted(range(V), key=lambda token: -row[token])
        assert top.ids[n].tolist() == order[:3]
        expected = [*(row[token] for token in order[:3]), sum(row[token] for token in order[3:])]
        assert top.logs[n].double().exp().tolist() == pytest.approx(expected, rel=3e-3)
    options: dict[str, Any] = {"mix": 0.3, "soft_weight": 0.6, "hard_weight": 0.9}

    def in_buckets() -> Tensor:
        """The same by the written-out loss: logits of buckets are logsumexps, the teacher's are its logs."""
        hidden, head = student()
        z = logits_of(hidden, head)
        near = z.gather(1, top.ids)
        others = torch.ones_like(z, dtype=torch.bool).scatter(1, top.ids, False)
        rest = torch.stack([z[n][others[n]].logsumexp(0) for n in range(N)])
        buckets = torch.cat([near, rest[:, None]], 1)
        eye = Head(torch.eye(4, dtype=torch.float64))
        soft, _ = written_out(buckets, eye, None, (top.logs.double(), eye), divergence, 0.3, 1.0, 0.6)
        return soft + 0.9 * F.cross_entropy(z, labels)

    expected_loss = in_buckets()
    wanted = torch.autograd.grad(expected_loss, leaves)
    loss = sum(next_token_loss(*student(), labels, top, divergence=divergence, elements=rows * V, **options))
    assert isinstance(loss, Tensor)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-10, atol=1e-12)
    for gradient, value in zip(torch.autograd.grad(loss, leaves), wanted, strict=True):
        torch.testing.assert_close(gradient, value, rtol=1e-8, atol=1e-10)


def test_all_but_one_token_are_the_whole_distribution() -> None:
    _, student, _, teacher = case()
    whole, _ = next_token_loss(*student(), None, teacher)
    top = top_of(*teacher, V - 1)
    exact = Top(top.ids, _exact(teacher, top.ids))
    torch.testing.assert_close(next_token_loss(*student(), None, exact)[0], whole)
    with pytest.raises(ValueError, match="temperature 1"):
        next_token_loss(*student(), None, top, temperature=2.0)


def _exact(teacher: tuple[Tensor, Head], ids: Tensor) -> Tensor:
    log_p = teacher[1].logits(teacher[0]).log_softmax(1)
    rest = log_p.scatter(1, ids, float("-inf")).logsumexp(1, keepdim=True)
    return torch.cat([log_p.gather(1, ids), rest], 1)
