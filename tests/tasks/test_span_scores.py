"""Exact match, F1 and the threshold: cases worked out by hand, and a second implementation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm_lab.tasks.qa_scores import CHARACTERS, accepted, best_threshold, exact_match, f1, normalise
from minilm_lab.tasks.span import SpanTask

from . import span_reference


@pytest.mark.parametrize(
    "text, normal",
    [
        ("The  Eiffel Tower!", "eiffel tower"),
        ("An apple, a day", "apple day"),
        ("theatre and anthem", "theatre and anthem"),
        ("U.S.", "us"),
        ("the", ""),
        ("$1,000", "1000"),
        ("rock’n’roll", "rock’n’roll"),  # only ASCII punctuation goes
        ("x-a-y", "xay"),
    ],
)
def test_normalised_as_in_squad(text, normal):
    assert normalise(text) == normal


LANGUAGES = {
    "zh": ("中国的首都", "首都", 4 / 7),
    "ja": ("日本の東京です。", "東京", 4 / 9),
    "th": ("กรุงเทพ", "กรุง", 8 / 11),
    "ko": ("대한민국의 서울", "서울", 4 / 9),
    "mixed": ("iPhone 手机", "手机", 4 / 5),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_scripts_without_spaces_are_compared_by_characters(language):
    right, made, overlap = LANGUAGES[language]  # 2 x characters in common / characters of both, by hand
    assert f1(made, [right], CHARACTERS) == pytest.approx(overlap)
    assert f1(right, [right], CHARACTERS) == exact_match(f" {right}。", [right], CHARACTERS) == 1.0
    task = SpanTask(name="t", path="x")
    assert task.rule("dev", [[right]]) == (CHARACTERS if language != "mixed" else "squad")
    assert task.rule("dev", [["the capital of 中国"], ["Paris"], []]) == "squad"
    assert f1("。", ["。"], CHARACTERS) == 1.0


@pytest.mark.parametrize(
    "rule, text, normal",
    [
        ("en", "The “Great” War", "great war"),  # all punctuation goes
        ("es", "La casa de los Reyes", "casa de reyes"),
        ("de", "Der Tag des Herrn", "tag herrn"),
        ("vi", "những con mèo", "con mèo"),
        ("ar", "الكتاب", "كتاب"),
        ("ar", "في البيت", "في بيت"),
        ("hi", "ताज महल।", "ताज महल"),
        ("zh", "公元前221年，秦始皇", "公 元 前 221 年 秦 始 皇"),
        ("zh", "The 北京 Olympics", "the 北 京 olympics"),
    ],
)
def test_normalised_as_in_mlqa(rule, text, normal):
    assert normalise(text, rule) == normal


def test_f1_by_hand():
    # Two words of three are right, two of four are found: 2·(2/3)(1/2)/(2/3+1/2) = 4/7.
    assert f1("green cat sat", ["the green cat ran away"]) == pytest.approx(4 / 7)
    # A word that is twice in the prediction and once in the answer is shared once: P 1/2, R 1.
    assert f1("new new", ["new"]) == pytest.approx(2 / 3)
    assert f1("dogs", ["cats", "two dogs", "dogs!"]) == 1.0
    assert (exact_match("Dogs.", ["cats", "the dogs"]), exact_match("dogs", ["two dogs"])) == (1.0, 0.0)
    # 公元 and 公元前: two of two characters, of three.
    assert f1("公元", ["公元前"], "zh") == pytest.approx(4 / 5)
    assert f1("公元", ["公元前"]) == 0.0


def test_answers_without_words():
    assert f1("the", ["a"]) == 0.0
    assert f1("the", ["a"], empty_agrees=True) == 1.0
    assert f1("", ["x"], empty_agrees=True) == f1("x", [""], empty_agrees=True) == 0.0
    assert accepted(["the", "x"]) == ["x"]
    assert accepted(["the"]) == accepted([]) == [""]


pieces = st.sampled_from(
    ["the", "The", "a", "an", "cat", "Cat,", "dog", "dog!", "...", "two-dogs", "cats", "U.S"]
)
phrases = st.lists(pieces, max_size=5).map(" ".join)


@settings(deadline=None, max_examples=300)
@given(phrases, st.lists(phrases, max_size=4))
def test_against_a_second_implementation(prediction, golds):
    right = accepted(golds)
    pairs = [span_reference.one_score(prediction, gold) for gold in right]
    assert exact_match(prediction, right) == max(exact for exact, _ in pairs)
    assert f1(prediction, right, empty_agrees=True) == pytest.approx(max(overlap for _, overlap in pairs))


def mean_at(threshold, answered, unanswerable, odds):
    """The mean score of questions that are answered unless their null odds are above the threshold."""
    total = 0.0
    for score, none, odd in zip(answered, unanswerable, odds, strict=True):
        total += float(none) if odd > threshold else score
    return total / len(odds)


questions = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.booleans(), st.integers(-5, 5)), min_size=1, max_size=30
)


@settings(deadline=None, max_examples=300)
@given(questions)
def test_the_threshold_against_trying_all(cases):
    answered = np.asarray([0.0 if none else score for score, none, _ in cases])
    unanswerable = np.asarray([none for _, none, _ in cases])
    odds = np.asarray([float(odd) for *_, odd in cases])
    found = best_threshold(answered, unanswerable, odds)
    every = [mean_at(t, answered, unanswerable, odds) for t in (-100.0, *odds)]
    assert found.score == pytest.approx(max(every))
    # What is promised is what the threshold gives, also where questions have equal odds.
    assert mean_at(found.value, answered, unanswerable, odds) == pytest.approx(found.score)


def test_the_threshold_by_hand():
    # In the order of their odds: right, unanswerable, right. Answering all: 2 of 3; the first alone: 2 of 3.
    found = best_threshold(
        np.asarray([1.0, 0.0, 1.0]), np.asarray([False, True, False]), np.asarray([-3.0, 0.0, 2.0])
    )
    assert (found.value, found.score) == (-3.0, pytest.approx(2 / 3))
    none = best_threshold(np.zeros(2), np.asarray([True, True]), np.asarray([4.0, 5.0]))
    assert none.value < 4.0 and none.score == 1.0
