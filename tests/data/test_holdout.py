"""Parts of a data set depend on its texts alone."""

import random

import pytest
from tasks.helpers import make_split, pairs_of

from minilm_lab.data.holdout import first, hold_out
from minilm_lab.errors import LabError


def make(numbers):
    texts = [(f"text {n}", f"pair {n}" if n % 2 else None) for n in numbers]
    return make_split(texts, list(numbers), [str(n) for n in numbers], groups=[f"g{n % 3}" for n in numbers])


def test_fewer_examples_lie_within_more():
    whole = make(range(200))
    parts = [first(whole, count, "x") for count in (10, 50, 200)]
    labels = [set(part["label"][:]) for part in parts]
    assert [len(own) for own in labels] == [10, 50, 200]
    assert labels[0] < labels[1] < labels[2]
    assert parts[0]["label"][:] == sorted(parts[0]["label"][:]), "in the order of the data"
    assert sorted(parts[0]["label"][:]) != list(range(10)), "not the first of the file"
    for part in parts:
        assert pairs_of(part) == [pairs_of(whole)[n] for n in part["label"][:]]
        assert part["id"][:] == [str(n) for n in part["label"][:]]
        assert part["group"][:] == [f"g{n % 3}" for n in part["label"][:]]


def test_the_order_of_the_data_plays_no_part():
    numbers = list(range(200))
    random.Random(1).shuffle(numbers)
    assert set(first(make(numbers), 20, "x")["label"]) == set(first(make(range(200)), 20, "x")["label"])


def test_more_than_there_are():
    with pytest.raises(LabError, match=r"task.train_examples=9 is more than the 3 training examples"):
        first(make(range(3)), 9, "task.train_examples")


def test_copies_of_a_text_are_on_one_side():
    numbers = [n % 150 for n in range(600)]
    rest, held = hold_out(make(numbers), 0.2)
    assert sorted(rest["label"][:] + held["label"][:]) == sorted(numbers)
    assert set(rest["label"][:]).isdisjoint(held["label"][:])
    assert 0.1 < len(held) / 600 < 0.3
    again = hold_out(make(range(150)), 0.2)[1]
    assert set(again["label"][:]) == set(held["label"][:])


def test_all_that_shares_a_text_is_on_one_side():
    questions = make_split(
        [(f"q {n}", f"c {n % 40}") for n in range(400)], list(range(400)), [str(n) for n in range(400)]
    )
    rest, held = hold_out(questions, 0.2, lambda texts: str(texts[1]))
    assert (
        sorted(rest["label"][:] + held["label"][:]) == list(range(400)) and len(held) and len(held) % 10 == 0
    )
    assert {c for _, c in pairs_of(rest)}.isdisjoint(c for _, c in pairs_of(held))


def test_a_side_without_examples():
    with pytest.raises(LabError, match=r"task.dev_fraction=0.001 leaves 3 training and 0 dev examples"):
        hold_out(make(range(3)), 0.001)
