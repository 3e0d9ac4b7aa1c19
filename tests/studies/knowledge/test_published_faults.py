"""The faults of the paper's published code, one by one: what it did stands in each test's docstring."""

from __future__ import annotations

import pytest

from minilm_lab.models.decoding import Answer
from minilm_lab.studies.knowledge import curves, methods
from minilm_lab.studies.knowledge.gold_lists import GoldList
from minilm_lab.studies.knowledge.navigation import _counting
from minilm_lab.studies.knowledge.prompts import Asker, Reply

from .conftest import GOLDS


def test_a_forced_token_never_merges_with_what_follows(asker: Asker) -> None:
    """It joined texts and tokenised them again: "t" + "he" became "the"."""
    letters = [asker.model.ids(letter, begins=False)[0] for letter in "the"]
    assert asker.model.ids("the", begins=False) != letters
    quote = asker.model.ids('"', begins=False)
    reply = asker.reply(Answer([*letters, *quote], True, 0.0), GOLDS[0])
    assert reply.tokens == tuple(letters) and reply.text == "the"
    assert asker.item(reply, 2) == [*letters, *asker.model.ids('"\n2. "', begins=False)]


def test_what_was_read_is_not_read_again(asker: Asker, prompts: list[list[int]]) -> None:
    """Its cache was looked up by one text and filled by another, and never hit."""
    with _counting(asker.model) as read:
        found = methods.navigated(asker, prompts[:1], GOLDS[:1], 20, rounds=10)
    items = sum(len(asker.item(reply, n)) for n, reply in enumerate(found.replies[0], 2))
    written = sum(len(reply.tokens) + 1 for reply in found.replies[0])
    again = 10 * len(prompts[0]) + items * 5  # each round the whole list once more, on average half of it
    assert read[0] < len(prompts[0]) * 11 + items + 2 * written < again + written


def test_an_open_quote_is_no_answer(asker: Asker) -> None:
    """Without a closing quote it took the item before."""
    gold = GoldList("g", "g", (("the",),))
    letters = [asker.model.ids(letter, begins=False)[0] for letter in "the"]
    reply = asker.reply(Answer(letters, False, 0.0), gold)
    assert (reply.ended, reply.gold, reply.text) == (False, None, "the")
    closed = asker.reply(Answer([*letters, *asker.model.ids('"', begins=False)], True, 0.0), gold)
    assert closed.gold == 0


def reply(text: str, gold: int | None = None) -> Reply:
    return Reply(0, text, (), True, gold)


def test_an_answer_counts_once_by_whatever_token_it_came() -> None:
    """ "Basketball" by "B", "Bas" and "Basket" counted three times."""
    replies = [
        [
            reply("Basketball", 0),
            reply("basketball", 0),
            reply("Golf", 1),
            reply("x"),
            reply("X "),
            reply("y"),
        ]
    ]
    golds = [GoldList("g", "g", (("basketball",), ("golf",), ("tennis",), ("chess",)))]
    got = curves.scores(replies, golds, 6)
    assert got["distinct"] == 2 and got["precision"] == pytest.approx(100 * 3 / 6)
    assert got["duplicates"] == pytest.approx(100 * 2 / 6) and got["recall"] == pytest.approx(100 * 2 / 4)


def test_running_precision_and_average_precision_are_two_things() -> None:
    """Its "MAP" was the running mean of precision."""
    replies = [[reply("a", 0), reply("?"), reply("a", 0), reply("b", 1)]]
    golds = [GoldList("g", "g", (("a",), ("b",), ("c",)))]
    got = curves.scores(replies, golds, 4)
    assert got["running_precision"] == pytest.approx(100 * (1 / 1 + 1 / 2 + 2 / 3 + 3 / 4) / 4)
    assert got["average_precision"] == pytest.approx(100 * (1 / 1 + 2 / 4) / 3)
    assert got["area"] == pytest.approx((1 + 1 + 1 + 2) / 4)


def test_a_method_that_gives_fewer_answers_has_wrong_ones_behind() -> None:
    got = curves.scores([[reply("a", 0)]], [GoldList("g", "g", (("a",), ("b",)))], 10)
    assert got["precision"] == pytest.approx(10) and got["distinct_10"] == 1 and "distinct_20" not in got
