"""Exact match and F1 of answers, by the definitions of the official scripts of SQuAD 1.1, SQuAD 2.0 and MLQA.

An answer is normalised (lower case, no punctuation, no articles, single spaces) and then compared: exact match
is equality, F1 is that of the two bags of words. Of several right answers the best counts. SQuAD takes English
articles and ASCII punctuation away; MLQA (Lewis et al. 2020) the articles of the context's language and all
punctuation of Unicode, and splits Chinese into characters. Of scripts without spaces between words, characters are
compared, and words of others among them (CMRC 2018, Cui et al. 2019; KorQuAD, JaQuAD and DRCD alike).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minilm_lab.tasks.scripts import apart, is_punctuation

AUTO = "auto"
"""SQuAD's rule, or that of characters where most right answers are of scripts without spaces."""
CHARACTERS = "characters"
"""The rule for scripts without spaces between words."""
SQUAD = "squad"
"""The rule of SQuAD's scripts, for scripts with spaces between words; others are MLQA's, by language."""
_ARTICLES = {
    SQUAD: r"\b(a|an|the)\b",
    "en": r"\b(a|an|the)\b",
    "es": r"\b(un|una|unos|unas|el|la|los|las)\b",
    "vi": r"\b(của|là|cái|chiếc|những)\b",
    "de": r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    # The official pattern is '\sال^|ال', whose first half never matches.
    "ar": "ال",
    "hi": None,
    "zh": None,
    CHARACTERS: None,
}
MLQA_LANGUAGES = tuple(rule for rule in _ARTICLES if rule not in (SQUAD, CHARACTERS))
"""Languages that MLQA has a rule for."""
_CHINESE = re.compile("([\u4e00-\u9fa5])")
_NO_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str, rule: str = SQUAD) -> str:
    """An answer in the form in which answers are compared; `rule`: "squad", "characters", or a language for MLQA's rule."""
    if rule == SQUAD:
        plain = text.lower().translate(_NO_ASCII_PUNCTUATION)
    else:
        plain = "".join(character for character in text.lower() if not is_punctuation(character))
    articles = _ARTICLES[rule]
    if articles is not None:
        plain = re.sub(articles, " ", plain)
    if rule == "zh":
        plain = _CHINESE.sub(r" \1 ", plain)
    if rule == CHARACTERS:
        plain = apart(plain)
    return " ".join(plain.split())


def exact_match(prediction: str, answers: Sequence[str], rule: str = SQUAD) -> float:
    """1.0 if the prediction is one of the right `answers`, else 0.0."""
    predicted = normalise(prediction, rule)
    return float(any(predicted == normalise(answer, rule) for answer in answers))


def f1(prediction: str, answers: Sequence[str], rule: str = SQUAD, empty_agrees: bool = False) -> float:
    """The largest F1, 0 to 1, of the prediction's words and those of one of the right `answers`.

    empty_agrees: whether two answers without words agree (SQuAD 2.0's script) or not (those of 1.1 and MLQA).
    Of characters they do.
    """
    empty_agrees = empty_agrees or rule == CHARACTERS
    predicted = normalise(prediction, rule).split()
    return max(_f1(predicted, normalise(answer, rule).split(), empty_agrees) for answer in answers)


def _f1(predicted: list[str], right: list[str], empty_agrees: bool) -> float:
    if not predicted or not right:
        return float(empty_agrees and predicted == right)
    common = sum((Counter(predicted) & Counter(right)).values())
    return 2 * common / (len(predicted) + len(right))


def accepted(answers: Sequence[str], rule: str = SQUAD) -> list[str]:
    """The answers that SQuAD 2.0's script compares with: those that hold a word, or "" where there are none."""
    return [answer for answer in answers if normalise(answer, rule)] or [""]


@dataclass(frozen=True)
class NullThreshold:
    """SQuAD 2.0: a question is answered unless its null odds are above the threshold."""

    value: float
    """The threshold with the best mean score on the questions it was chosen on."""
    score: float
    """That mean score, 0 to 1."""


def best_threshold(
    answered: np.ndarray, right_to_abstain: np.ndarray, null_odds: np.ndarray
) -> NullThreshold:
    """The threshold that gives the best mean score, by trying every one.

    answered: score (questions,) of the best span, which is 0 for an unanswerable question; right_to_abstain:
    bool (questions,), whether the question is unanswerable; null_odds: (questions,) score of "no answer" less
    that of the best span. Of thresholds with the same score the smallest is taken (like the official script's,
    but questions with equal odds are never parted).
    """
    order = np.argsort(null_odds, kind="stable")
    odds = null_odds[order]
    # Answering the first k questions in the order of their odds, for k from 0 to all.
    gains = np.concatenate([[0.0], np.cumsum((answered - right_to_abstain)[order])])
    parted = np.concatenate([[True], odds[1:] != odds[:-1], [True]])
    gains[~parted] = -np.inf
    best = int(np.argmax(gains))
    value = float(odds[best - 1]) if best else float(odds[0]) - 1.0
    total = float(np.sum(right_to_abstain)) + float(gains[best])
    return NullThreshold(value, total / len(odds))
