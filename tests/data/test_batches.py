"""The order of samples: resumable at any sample, the same for any number of ranks and workers."""

from __future__ import annotations

import pickle
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minilm_lab.data import Batch, Blocks, held_out_batches, loader
from minilm_lab.data.order import Order
from minilm_lab.errors import LabError


def take(blocks: Blocks, batches: int, **arguments) -> list[Batch]:
    return list(islice(iter(loader(blocks, **{"seed": 3, "first_sample": 0, **arguments})), batches))


def rows(batches: list[Batch]) -> list[tuple[int, list[int]]]:
    """(sample number, real tokens) of every sample."""
    found = []
    for batch in batches:
        for n, (sample, ids) in enumerate(zip(batch["samples"].tolist(), batch["input_ids"], strict=True)):
            mask = batch["mask"]
            found.append((sample, (ids if mask is None else ids[mask[n]]).tolist()))
    return found


def equal(left: Batch, right: Batch) -> bool:
    masks = left["mask"], right["mask"]
    return (
        torch.equal(left["input_ids"], right["input_ids"])
        and torch.equal(left["samples"], right["samples"])
        and left["tokens"] == right["tokens"]
        and (masks == (None, None) or torch.equal(*masks))
    )


@given(seed=st.integers(0, 2**32), count=st.integers(1, 40), first=st.integers(0, 500))
def test_every_epoch_is_a_permutation_and_any_part_can_be_asked_for(
    seed: int, count: int, first: int
) -> None:
    order = Order(seed, count)
    epoch = first // count
    assert sorted(order(np.arange(epoch * count, (epoch + 1) * count))) == list(range(count))
    part = np.arange(first, first + 3 * count)
    assert np.array_equal(order(part), [Order(seed, count)(np.array([n]))[0] for n in part])


@given(
    seed=st.integers(0, 2**32),
    batch=st.integers(1, 5),
    batches=st.integers(1, 130),
    first=st.integers(0, 900),
)
def test_with_lengths_batches_hold_similar_ones_and_any_part_can_be_asked_for(
    seed: int, batch: int, batches: int, first: int
) -> None:
    count = batch * batches + batch // 2
    lengths = np.random.default_rng(seed).integers(1, 60, count)
    order = Order(seed, count, lengths, batch)
    epoch = first // order.count
    whole = order(np.arange(epoch * order.count, (epoch + 1) * order.count))
    assert order.count == batch * batches
    assert len(set(whole.tolist())) == len(whole)  # no item twice
    part = np.arange(first, first + 3)
    assert np.array_equal(order(part), [Order(seed, count, lengths, batch)(np.array([n]))[0] for n in part])
    # Sorted, the batches of a group follow each other without overlap: their spread is that of sorted lengths.
    spread = sum(np.ptp(lengths[rows]) for rows in whole.reshape(-1, batch))
    groups = -(-batches // 50)
    assert spread <= groups * 60


def test_the_order_stays_what_it_was() -> None:
    """Runs of older versions resume only if this never changes."""
    assert Order(0, 10)(np.arange(20)).tolist() == GOLDEN
    assert Order(1, 10)(np.arange(20)).tolist() != GOLDEN


GOLDEN = [4, 6, 2, 7, 3, 5, 9, 0, 8, 1, 9, 1, 3, 8, 7, 6, 0, 4, 2, 5]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["packed_blocks", "sentence_blocks"])
def test_resuming_at_any_sample_gives_the_same_batches(request, name: str, workers: int) -> None:
    blocks: Blocks = request.getfixturevalue(name)
    whole = take(blocks, 60, batch_size=8)  # beyond two epochs
    assert 2 * len(blocks.train) < 60 * 8
    for done in (0, 1, 17, 43):
        resumed = take(blocks, 4, batch_size=8, first_sample=8 * done, workers=workers)
        assert all(equal(a, b) for a, b in zip(resumed, whole[done:], strict=False))


def test_other_seeds_give_other_orders(packed_blocks: Blocks) -> None:
    assert rows(take(packed_blocks, 2, batch_size=8)) != rows(take(packed_blocks, 2, batch_size=8, seed=4))


@pytest.mark.parametrize("name", ["packed_blocks", "sentence_blocks"])
@pytest.mark.parametrize("world_size, workers", [(2, 0), (3, 0), (4, 2)])
def test_ranks_and_workers_do_not_change_what_is_seen(
    request, name: str, world_size: int, workers: int
) -> None:
    blocks: Blocks = request.getfixturevalue(name)
    alone = rows(take(blocks, 16, batch_size=12, first_sample=5))
    ranks = [
        take(
            blocks,
            16,
            batch_size=12 // world_size,
            first_sample=5,
            rank=rank,
            world_size=world_size,
            workers=workers,
        )
        for rank in range(world_size)
    ]
    together = [row for step in zip(*ranks, strict=True) for row in rows(list(step))]
    assert together == alone


@pytest.mark.parametrize("name", ["packed_blocks", "sentence_blocks"])
def test_an_epoch_repeats_and_skips_nothing_and_shows_no_held_out_block(request, name: str) -> None:
    blocks: Blocks = request.getfixturevalue(name)
    count = len(blocks.train)
    seen = rows(take(blocks, 2 * count // 7 + 1, batch_size=7))
    assert [sample for sample, _ in seen] == list(range(len(seen)))

    def stored(numbers) -> list[list[int]]:
        lengths = blocks.lengths if blocks.lengths is not None else np.full(blocks.count, blocks.length)
        return sorted(blocks.tokens[n, : lengths[n]].tolist() for n in numbers)

    for epoch in (0, 1):
        ids = sorted(ids for _, ids in seen[epoch * count : (epoch + 1) * count])
        assert ids == stored(blocks.train)
    assert sorted([*blocks.train, *blocks.held_out]) == list(range(blocks.count))


def test_batches_of_full_blocks_need_no_mask(packed_blocks: Blocks) -> None:
    (batch,) = take(packed_blocks, 1, batch_size=8)
    assert batch["mask"] is None
    assert batch["input_ids"].shape == (8, 16)
    assert batch["input_ids"].dtype == batch["samples"].dtype == torch.int64
    assert batch["tokens"] == 8 * 16


def test_batches_of_sentences_are_trimmed_to_their_longest(sentence_blocks: Blocks, bert) -> None:
    for batch in take(sentence_blocks, 10, batch_size=2):
        mask = batch["mask"]
        assert mask is not None and mask.dtype == torch.bool
        assert mask.sum(1).max() == batch["input_ids"].shape[1]
        assert torch.equal(mask, batch["input_ids"] != bert.pad_token_id)
        assert batch["tokens"] == mask.sum()


def test_the_loader_leaves_the_global_random_state_alone(packed_blocks: Blocks) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    take(packed_blocks, 2, batch_size=4, workers=2)
    assert torch.equal(before, torch.get_rng_state())


def test_the_loader_has_no_length(packed_blocks: Blocks) -> None:
    with pytest.raises(TypeError):
        len(loader(packed_blocks, seed=0, batch_size=4, first_sample=0))


def test_held_out_batches(packed_blocks: Blocks, sentence_blocks: Blocks) -> None:
    blocks = packed_blocks
    batches = list(held_out_batches(blocks, 4))
    assert [n for batch in batches for n in batch["samples"].tolist()] == blocks.held_out.tolist()
    ids = torch.cat([batch["input_ids"] for batch in batches])
    assert ids.tolist() == blocks.tokens[blocks.held_out].tolist()
    assert sum(len(batch["samples"]) for batch in held_out_batches(blocks, 4, limit=5)) == 5
    assert all(batch["mask"] is not None for batch in held_out_batches(sentence_blocks, 3))


def test_fewer_blocks_than_a_batch_is_said(packed_blocks: Blocks) -> None:
    with pytest.raises(
        LabError, match=r"training blocks of 16 tokens.*one batch of 1,024.*scale\.batch_size"
    ):
        loader(packed_blocks, seed=0, batch_size=512, world_size=2, first_sample=0)


def test_blocks_travel_without_their_tokens(packed_blocks: Blocks) -> None:
    _ = packed_blocks.tokens, packed_blocks.train
    sent = pickle.dumps(packed_blocks)
    assert len(sent) < 2000
    assert np.array_equal(pickle.loads(sent).tokens, packed_blocks.tokens)
