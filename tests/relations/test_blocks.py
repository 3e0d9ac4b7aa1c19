"""How the work is cut: blocks that fit, stretches of tokens that belong together, logits that exp cannot take."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from minilm_lab.relations import blocks, plan, relation_kl
from minilm_lab.relations.masks import pieces

CPU = torch.device("cpu")


@pytest.mark.parametrize("batch", [1, 5, 16])
@pytest.mark.parametrize("heads", [1, 12, 48])
@pytest.mark.parametrize("length", [1, 128, 512, 4096])
def test_a_block_fits_and_the_blocks_cover_everything_once(
    batch: int, heads: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "block_bytes", lambda device: 1 << 21)
    cut = plan.plan_blocks(batch, heads, length, 4, CPU)
    assert 4 * cut.sequences * cut.heads * cut.queries * length <= 1 << 21
    covered = torch.zeros(batch, heads)
    for samples, some in cut.groups(batch, heads):
        covered[samples, some] += 1
    assert (covered == 1).all()
    assert 1 <= cut.queries <= length


def test_blocks_are_as_even_as_they_can_be() -> None:
    assert plan._evenly(16, 5) == 4
    assert plan._evenly(48, 30) == 24
    assert plan._evenly(3, 100) == 3
    assert plan._evenly(3, 0) == 1


def test_a_block_is_planned_from_the_cache() -> None:
    assert 1 << 17 <= plan.block_bytes(CPU) <= 1 << 30


def test_the_real_tokens_of_each_sequence_batched_by_their_number() -> None:
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 1]]).bool()
    three, four = pieces(mask)
    assert three.tolist() == [[1, 2, 3], [12, 14, 15]] and four.tolist() == [[4, 5, 6, 7]]
    assert pieces(torch.zeros(2, 3, dtype=torch.bool)) == []


@pytest.mark.parametrize(
    ("settings", "scale", "mirrored"),
    [({}, 1.0, True), ({}, 300.0, False), ({"causal": True}, 1.0, False)],
)
def test_the_short_cut_is_taken_where_it_holds(
    settings: dict[str, Any], scale: float, mirrored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Symmetric pairs go one way, and the other once a logit is too large for exp; both are right (see values)."""
    general = []
    original = blocks._general

    def spy(*arguments: Any) -> torch.Tensor:
        general.append(1)
        return original(*arguments)

    monkeypatch.setattr(blocks, "_general", spy)
    x, y = torch.randn(2, 6, 8) * scale**0.5, torch.randn(2, 6, 8)
    relation_kl((x, x), (y, y), heads=2, backend="blockwise", **settings)
    assert bool(general) != mirrored


def test_every_thread_has_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """At least a head for each thread, even if a head alone is over the budget: then fewer queries."""
    monkeypatch.setattr(plan, "block_bytes", lambda device: 1 << 16)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    cut = plan.plan_blocks(2, 12, 1024, 4, CPU)
    assert (cut.sequences, cut.heads, cut.queries) == (1, 4, 4)
