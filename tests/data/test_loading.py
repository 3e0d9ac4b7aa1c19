"""Order, padding and ranks of batches."""

import itertools
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tasks.helpers import pairs_of

from minilm_lab.data.loading import batches_per_epoch, by_length, epoch_order, eval_batches
from minilm_lab.tasks.features import Features
from minilm_lab.tasks.hub import HubTask


def make(lengths, segments=True) -> Features:
    """Example i has the token ids i + 1, and the label i."""
    ids = [np.full(length, number + 1) for number, length in enumerate(lengths)]
    return Features(
        input_ids=ids,
        token_type_ids=[np.arange(length) % 2 for length in lengths] if segments else None,
        labels=np.arange(len(lengths)),
        lengths=np.asarray(lengths),
        pad_id=0,
    )


def take(features, count, **settings_):
    return [batch["labels"].tolist() for batch in itertools.islice(by_length(features, **settings_), count)]


shapes = st.tuples(
    st.lists(st.integers(2, 60), min_size=1, max_size=700),
    st.integers(1, 9),
    st.integers(0, 2**32),
    st.integers(0, 5),
)


@settings(deadline=None, max_examples=100)
@given(shapes)
def test_an_epoch_holds_every_example_once(shape):
    lengths, batch_size, seed, epoch = shape
    order = epoch_order(np.asarray(lengths), seed=seed, epoch=epoch, batch_size=batch_size)
    assert sorted(np.concatenate(order).tolist()) == list(range(len(lengths)))
    assert len(order) == batches_per_epoch(len(lengths), batch_size)
    # At most one batch is smaller than the others.
    assert sorted(len(batch) for batch in order)[1:] == [batch_size] * (len(order) - 1)


@settings(deadline=None, max_examples=40)
@given(shapes, st.integers(0, 300))
def test_the_stream_from_any_batch_is_the_same_stream(shape, first):
    lengths, batch_size, seed, _ = shape
    features = make(lengths)
    whole = take(features, first + 5, seed=seed, batch_size=batch_size, first_batch=0)
    assert take(features, 5, seed=seed, batch_size=batch_size, first_batch=first) == whole[first:]


@settings(deadline=None, max_examples=40)
@given(shapes, st.integers(2, 4))
def test_ranks_share_the_batches_of_one_process(shape, world_size):
    lengths, batch_size, seed, _ = shape
    features = make(lengths)
    count = batches_per_epoch(len(lengths), batch_size * world_size) + 2
    alone = take(features, count, seed=seed, batch_size=batch_size * world_size, first_batch=0)
    ranks = [
        take(features, count, seed=seed, batch_size=batch_size, first_batch=0, rank=r, world_size=world_size)
        for r in range(world_size)
    ]
    for number, whole in enumerate(alone):
        parts = [ranks[r][number] for r in range(world_size)]
        assert all(parts), "a rank without examples would block the others"
        if len(whole) >= world_size:
            assert sorted(itertools.chain(*parts)) == sorted(whole)
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
        else:
            assert set(itertools.chain(*parts)) == set(whole)


def test_batches_are_even_but_lengths_come_in_no_order():
    lengths = np.arange(1000)
    order = epoch_order(lengths, seed=0, epoch=0, batch_size=4)
    spread = np.asarray([lengths[batch].max() - lengths[batch].min() for batch in order])
    assert spread.mean() < 30  # four neighbours among 200 of 1000; four at random: 600
    longest = np.asarray([lengths[batch].max() for batch in order])
    assert abs(np.corrcoef(longest, np.arange(len(order)))[0, 1]) < 0.2
    rising = (np.diff(longest) > 0).mean()
    assert 0.4 < rising < 0.6


def test_epochs_and_seeds_differ():
    lengths = np.arange(100) % 7 + 2
    orders = {
        tuple(np.concatenate(epoch_order(lengths, seed=seed, epoch=epoch, batch_size=4)).tolist())
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(orders) == 4


def test_workers_do_not_change_the_stream():
    features = make([2 + n % 11 for n in range(103)])
    alone = take(features, 60, seed=3, batch_size=4, first_batch=7)
    assert take(features, 60, seed=3, batch_size=4, first_batch=7, workers=2) == alone


def test_a_data_set_smaller_than_a_batch_warns(caplog):
    assert [sorted(batch) for batch in take(make([3, 4]), 2, seed=0, batch_size=8, first_batch=0)] == [
        [0, 1]
    ] * 2
    assert "2 training examples are fewer than a batch of 8" in caplog.text


@pytest.mark.parametrize("segments", [True, False])
def test_collate_against_padding_one_by_one(segments):
    features = make([3, 7, 2], segments)
    batch = features.batch(np.asarray([2, 0]))
    expected = {
        "input_ids": [[3, 3, 0], [1, 1, 1]],
        "attention_mask": [[1, 1, 0], [1, 1, 1]],
        "labels": [2, 0],
    } | ({"token_type_ids": [[0, 1, 0], [0, 1, 0]]} if segments else {})
    assert {key: value.tolist() for key, value in batch.items()} == expected
    assert all(value.dtype == torch.int64 for value in batch.values())


def test_eval_batches_restore_the_order():
    lengths = [5, 2, 9, 9, 3, 4, 2]
    features = make(lengths)
    outputs = torch.zeros(len(lengths))
    widths = []
    for batch in eval_batches(features, 3):
        outputs[batch["index"]] = batch["labels"].float() * 10
        widths.append(batch["input_ids"].shape[1])
    assert outputs.tolist() == [10.0 * n for n in range(len(lengths))]
    assert widths == [9, 4, 2]


@pytest.mark.parametrize("config, text", [("sst2", ["sentence"]), ("mrpc", ["sentence1", "sentence2"])])
def test_padding_of_real_data_is_below_a_tenth(config, text, shared_hub, tmp_path):
    train = HubTask(path="nyu-mll/glue", config=config, text=text).load(shared_hub, tmp_path).train
    # Words and punctuation marks stand for tokens: it is the spread of lengths that decides.
    lengths = np.asarray([len(re.findall(r"\w+|[^\w\s]", f"{a} {b or ''}")) + 2 for a, b in pairs_of(train)])
    order = epoch_order(lengths, seed=0, epoch=0, batch_size=32)
    padded = sum(len(batch) * lengths[batch].max() for batch in order)
    assert 1 - lengths.sum() / padded < 0.10
