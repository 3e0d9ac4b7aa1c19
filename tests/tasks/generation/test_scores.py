"""Scores by hand and by counting."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from minilm_lab.errors import LabError
from minilm_lab.tasks.generation import scores

NAMES = list(scores.METRICS)


def test_rouge_by_hand() -> None:
    right, made = "the cat sat on the mat", "the cat lay on a mat today"
    found = scores.score(["rouge1", "rouge2", "rougeL"], [made], [[right]])
    # Words in common: the, cat, on, mat (4 of 7 and of 6); pairs: "the cat" (1 of 6 and of 5); in order: all 4.
    assert found["rouge1"] == pytest.approx(100 * 2 * 4 / (7 + 6))
    assert found["rouge2"] == pytest.approx(100 * 2 * 1 / (6 + 5))
    assert found["rougeL"] == pytest.approx(100 * 2 * 4 / (7 + 6))
    # Order matters to ROUGE-L alone: of "mat the on cat", one or two words are in the reference's order.
    found = scores.score(["rouge1", "rougeL"], ["mat the on cat"], [["the cat on mat"]])
    assert found == {"rouge1": pytest.approx(100.0), "rougeL": pytest.approx(50.0)}


def test_summary_level_rouge_takes_sentences_one_by_one() -> None:
    right = "the police came. a man ran."
    made = "A man ran! The police came."
    found = scores.score(["rougeL", "rougeLsum"], [made], [[right]])
    assert found["rougeLsum"] == pytest.approx(100.0)
    assert found["rougeL"] == pytest.approx(50.0)  # as one sentence: three of six words in order


def test_rouge_stems_longer_words_and_takes_the_best_reference() -> None:
    # "running" and "runs" have one stem; words of up to three letters are left as they are.
    found = scores.score(["rouge1"], ["a dog running"], [["nothing here", "the dog runs far"]])
    assert found["rouge1"] == pytest.approx(100 * 2 * 2 / (3 + 4))


@pytest.mark.parametrize(
    "text", ["北京是中国的首都。上海很大。", "東京は日本の首都です", "กรุงเทพเป็นเมืองหลวง", "Москва большой город", "दिल्ली भारत की राजधानी है", "القاهرة عاصمة مصر", "two words"]
)  # fmt: skip
def test_no_script_scores_nothing_against_itself(text: str) -> None:
    found = scores.score(NAMES, [text, text], [[text], [text]])
    assert all(value > 90 for value in found.values()), found
    none = scores.score(NAMES, ["zzz"] * 2, [[text], [text]])
    assert not any(none.values()), none


def test_characters_are_the_words_of_scripts_without_spaces() -> None:
    found = scores.score(["rouge1", "rougeL"], ["首都中国"], [["中国的首都"]])
    assert found == {"rouge1": pytest.approx(100 * 2 * 4 / 9), "rougeL": pytest.approx(100 * 2 * 2 / 9)}


def bleu(hypotheses: list[str], references: list[list[str]]) -> float:
    """BLEU-4 by counting (Papineni et al. 2002)."""
    right, of = [0] * 4, [0] * 4
    length = closest = 0
    for made, known in zip(hypotheses, references, strict=True):
        own = scores.words(made)
        others = [scores.words(text) for text in known]
        length += len(own)
        closest += min((len(other) for other in others), key=lambda n: (abs(n - len(own)), n))
        for n in range(1, 5):
            grams = Counter(tuple(own[i : i + n]) for i in range(len(own) - n + 1))
            most: Counter[tuple[str, ...]] = Counter()
            for other in others:
                most |= Counter(tuple(other[i : i + n]) for i in range(len(other) - n + 1))
            right[n - 1] += sum((grams & most).values())
            of[n - 1] += sum(grams.values())
    if not all(right):
        return 0.0
    brevity = min(1.0, math.exp(1 - closest / length))
    return 100 * brevity * math.exp(sum(math.log(r / o) for r, o in zip(right, of, strict=True)) / 4)


def test_bleu_by_hand() -> None:
    # 8 words against 9: precisions 7/8, 5/7, 3/6, 1/5; brevity e^(1 − 9/8).
    made = "who was the first man on a moon"
    right = "who was the first man on the moon ?"
    expected = 100 * math.exp(1 - 9 / 8) * (7 / 8 * 5 / 7 * 4 / 6 * 3 / 5) ** 0.25
    assert scores.score(["bleu4"], [made], [[right]])["bleu4"] == pytest.approx(expected)


def test_bleu_is_counted_over_the_corpus_and_all_references() -> None:
    draw = random.Random(3)
    words = ["the", "a", "cat", "dog", "sat", "ran", "on", "mat", "who", "?", "'s"]

    def text() -> str:
        return " ".join(draw.choices(words, k=draw.randint(4, 12)))

    for _ in range(20):
        made = [text() for _ in range(6)]
        known = [[text() for _ in range(draw.randint(1, 3))] for _ in made]
        known[0][0] = made[0] + " cat"
        assert scores.score(["bleu4"], made, known)["bleu4"] == pytest.approx(bleu(made, known))
    assert scores.score(["bleu4"], ["cat"], [["dog"]])["bleu4"] == 0.0, "no smoothing"


def test_spaces_around_punctuation_do_not_matter() -> None:
    assert scores.words("Who's José, in 2-0?") == ["who", "'", "s", "josé", ",", "in", "2", "-", "0", "?"]
    loose, tight = "who 's there , and why ?", "Who's there, and why?"
    found = scores.score(NAMES, [loose], [[tight]])
    assert found["bleu4"] == pytest.approx(100.0) and found["rougeL"] == pytest.approx(100.0)


def test_meteor_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "has_wordnet", lambda: False)
    # "the", "on", "mat" match as they are, "running" and "runs" by their stem: 4 of 5 words of each, in two chunks
    # ("the", and "runs on mat"), so the penalty is 0.5 (2/4)^3.
    made, right = "the dog runs on mat", "the cat running on mat"
    precision = recall = 4 / 5
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    found = scores.score(["meteor"], [made], [["nothing", right]])["meteor"]
    assert found == pytest.approx(100 * mean * (1 - 0.5 * (2 / 4) ** 3))
    assert "WITHOUT synonyms" in scores.on_this_machine("meteor_test")
    monkeypatch.setattr(scores, "has_wordnet", lambda: True)
    assert scores.on_this_machine("meteor") == "" and scores.on_this_machine("bleu4") == ""


def test_empty_texts_score_nothing_and_break_nothing() -> None:
    found = scores.score(NAMES, ["", "a cat sat on a mat"], [["a cat"], ["a cat sat on a mat"]])
    assert found["rouge1"] == pytest.approx(50.0) and 0 < found["bleu4"] < 100
    assert scores.score(NAMES, [""], [["a cat"]]) == dict.fromkeys(NAMES, 0.0)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LabError, match="'rouge1' needs the package rouge-score: pip install rouge-score"):
        scores.check_packages(["rouge1"])
