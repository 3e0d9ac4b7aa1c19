"""Every backend that runs here equals the loops, in value and gradient. Triton's turn is in test_triton.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm_lab.relations import relation_kl

from .cases import CASES, PAIRS, PLAIN, Case, check

BACKENDS = ["reference", "blockwise"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_float64_is_exact(name: str, backend: str) -> None:
    check(CASES[name], backend, 1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_float32_keeps_five_digits(name: str, backend: str) -> None:
    check(replace(CASES[name], dtype=torch.float32), backend, 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["pair qq", "pair qk", "masked both", "everything", "teacher wider"])
def test_half_precision_loses_only_the_rounding_of_inputs_and_gradients(
    name: str, backend: str, dtype: torch.dtype
) -> None:
    check(replace(CASES[name], dtype=dtype), backend, 1e-2)


@pytest.mark.parametrize("block_bytes", [200, 4000])
@pytest.mark.parametrize(
    "name", ["pair qq", "pair qk", "12 heads", "causal", "causal qk", "everything", "masked holes"]
)
def test_small_blocks_change_nothing(name: str, block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minilm_lab.relations.plan.block_bytes", lambda device: block_bytes)
    check(CASES[name], "blockwise", 1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pair", ["qq", "qk"])
@pytest.mark.parametrize("scale", [100.0, 1e4])
def test_large_logits(backend: str, pair: str, scale: float) -> None:
    """Logits of thousands, where exp overflows: still five digits of the loss, and nothing infinite."""
    check(replace(PLAIN, pair=pair, scale=scale, dtype=torch.float32, length=12), backend, 1e-5)


@given(
    batch=st.integers(1, 3), length=st.integers(1, 10), heads=st.integers(1, 4), size=st.integers(1, 9),
    their_size=st.integers(1, 9), pair=st.sampled_from(PAIRS), masked=st.sampled_from(["none", "left", "right", "holes"]),
    causal=st.booleans(), seed=st.integers(0, 1000), backend=st.sampled_from(BACKENDS),
    scale=st.sampled_from([0.01, 1.0, 30.0]),
)  # fmt: skip
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_case(backend: str, **drawn: object) -> None:
    check(Case(**drawn), backend, 1e-11)  # type: ignore[arg-type]


@pytest.mark.parametrize("pair", ["qq", "qk"])
@pytest.mark.parametrize("masked", ["none", "both"])
@pytest.mark.parametrize("causal", [False, True])
def test_gradcheck(pair: str, masked: str, causal: bool) -> None:
    student, teacher, others = Case(length=5, pair=pair, masked=masked, causal=causal).draw()
    leaves = tuple({id(x): x for x in student}.values())

    def loss(*inputs: torch.Tensor) -> torch.Tensor:
        return relation_kl((inputs[0], inputs[-1]), teacher, heads=2, backend="blockwise", **others)

    assert torch.autograd.gradcheck(loss, leaves)
