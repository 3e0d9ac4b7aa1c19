"""Rotary positions, shared keys and values, and what a query may not see: by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from minilm_lab.models.tapped import Tapped
from minilm_lab.models.taps import Needs

from .helpers import batch, body_of


def only(*, projections=(), scores=(), hidden=(), logits=False) -> Needs:
    return Needs(frozenset(projections), frozenset(scores), frozenset(hidden), logits)


def _turned_by_hand(tensor: Tensor, heads: int, base: float) -> Tensor:
    """Rotary positions as multiplication by a complex number: pairs (i, i + half) of each head."""
    batch_size, length, width = tensor.shape
    half = width // heads // 2
    parts = tensor.view(batch_size, length, heads, 2, half).double()
    turn = torch.arange(length)[:, None] * base ** (-torch.arange(half, dtype=torch.float64) / half)
    turned = (
        torch.complex(parts[..., 0, :], parts[..., 1, :]) * torch.polar(torch.ones_like(turn), turn)[:, None]
    )
    return torch.stack((turned.real, turned.imag), dim=-2).reshape(batch_size, length, width)


@pytest.mark.parametrize("family", ["llama", "qwen2", "modernbert"])
def test_after_rotary_positions(family: str) -> None:
    body = body_of(family)
    ids, _ = batch(body, "none")
    heads, config = body.config.num_attention_heads, body.config
    for layer in (1, 2, 3):
        before = Tapped(body, only(projections={layer}))(ids).projections[layer]
        after = Tapped(body, only(projections={1, layer}), rotary="after")(ids).projections[layer]
        rope = config.rope_parameters
        base = (
            rope[config.layer_types[layer - 1]]["rope_theta"]
            if family == "modernbert"
            else rope["rope_theta"]
        )
        for name in ("query", "key"):
            expected = _turned_by_hand(getattr(before, name), heads, base)
            torch.testing.assert_close(getattr(after, name).double(), expected, rtol=1e-4, atol=1e-4)
            assert (getattr(after, name) - getattr(before, name)).abs().max() > 0.1
        assert torch.equal(after.value, before.value)


@pytest.mark.parametrize("rotary", ["before", "after"])
def test_keys_and_values_by_group(rotary: str) -> None:
    """Two query heads share a key head of width 6: repeated it is as wide as the query."""
    body = body_of("llama")
    ids, _ = batch(body, "none")
    for needs in (only(projections={2}), only(projections={1, 2}, hidden={2})):
        wide = Tapped(body, needs, rotary=rotary)(ids).projections[2]
        narrow = Tapped(body, needs, rotary=rotary, grouped="group")(ids).projections[2]
        assert wide.query.shape == wide.key.shape == wide.value.shape == (3, 11, 24)
        assert torch.equal(narrow.query, wide.query)
        for name in ("key", "value"):
            few, many = getattr(narrow, name), getattr(wide, name)
            assert few.shape == (3, 11, 12)
            assert torch.equal(many, torch.cat([few[..., :6]] * 2 + [few[..., 6:]] * 2, dim=-1))


def test_what_a_query_may_not_see() -> None:
    """Causal: nothing ahead. A window of 4: the key itself and three before. ModernBERT's: three to each side."""
    places = torch.arange(11)
    distance = places[:, None] - places
    for family, layer, seen in (
        ("gpt2", 2, distance >= 0),
        ("llama", 1, distance >= 0),
        ("qwen2", 1, distance >= 0),
        ("qwen2", 2, (distance >= 0) & (distance < 4)),
        ("modernbert", 1, distance > -99),
        ("modernbert", 2, distance.abs() <= 3),
    ):
        body = body_of(family)
        scores = Tapped(body, only(scores={layer}))(batch(body, "none")[0]).scores[layer]
        assert torch.equal(torch.isfinite(scores), seen.expand_as(scores)), (family, layer)
