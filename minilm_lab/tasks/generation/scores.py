"""ROUGE, BLEU-4 and METEOR of generated texts, by the libraries of the field, on the papers' scale (0 to 100)."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Callable, Sequence
from typing import Any

from minilm_lab.errors import LabError
from minilm_lab.tasks import scripts
from minilm_lab.tasks.scripts import SPACELESS, apart, by_characters, latin

# The libraries are imported where they are used: every command that composes a configuration imports this module.

PACKAGES = {
    "rouge1": "rouge_score",
    "rouge2": "rouge_score",
    "rougeL": "rouge_score",
    "rougeLsum": "rouge_score",
    "bleu4": "sacrebleu",
    "meteor": "nltk",
}
"""Metric -> the package that computes it."""

_ROUGE = (
    "100 x mean over examples of the {what} F1 (rouge-score: lower case, runs of a-z and 0-9 are words, Porter stems "
    "of words longer than 3); of several references the best"
)
_OTHERS = f". For texts that are mostly in other letters: of words between spaces and punctuation, or of characters ({SPACELESS})"
_WORDS = (
    "words: runs of letters and digits, every other character by itself, lower case; characters where most are "
    f"{SPACELESS}"
)


METRICS = {
    "rouge1": _ROUGE.format(what="unigram (ROUGE-1)") + _OTHERS,
    "rouge2": _ROUGE.format(what="bigram (ROUGE-2)") + _OTHERS,
    "rougeL": _ROUGE.format(what="longest common subsequence (ROUGE-L, the text as one sentence)") + _OTHERS,
    "rougeLsum": _ROUGE.format(
        what="summary-level longest common subsequence (ROUGE-L as reported for CNN/DailyMail; sentences end at a "
        "new line and after . ! ?)"
    )
    + _OTHERS,
    "bleu4": "100 x corpus BLEU with n-grams up to 4, brevity penalty against the closest reference length, no "
    f"smoothing (sacrebleu), or up to the longest there are where no reference has 4 words; {_WORDS}",
    "meteor": "100 x mean over examples of METEOR (nltk: alpha 0.9, beta 3, gamma 0.5, Lavie and Agarwal 2007) with "
    f"exact, Porter-stem and WordNet-synonym matches; of several references the best; {_WORDS}. Not the METEOR 1.5 "
    "program of the papers, which has other weights and paraphrases",
}
"""Metric -> its definition."""
WITHOUT_SYNONYMS = "; computed WITHOUT synonyms: nltk has no wordnet data on this machine"
"""Added to METEOR's definition where nltk has no WordNet (nltk.download("wordnet") fetches it): lower than with it."""


def on_this_machine(name: str) -> str:
    """What a definition of `name` (a metric, or <metric>_<split>) lacks: METEOR depends on nltk's data."""
    return WITHOUT_SYNONYMS if name.startswith("meteor") and not has_wordnet() else ""


def check_packages(names: Sequence[str]) -> None:
    """LabError if a metric's package is not installed."""
    for name in names:
        package = PACKAGES[name]
        if importlib.util.find_spec(package) is None:
            raise LabError(
                f"task.metrics: '{name}' needs the package {package.replace('_', '-')}: "
                f"pip install {package.replace('_', '-')}, or choose other metrics."
            )


def score(
    names: Sequence[str], hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """The metrics `names` of texts; references: one or more right texts for each hypothesis."""
    rouge = [name for name in names if name.startswith("rouge")]
    values = _rouge(rouge, hypotheses, references) if rouge else {}
    others: dict[str, Callable[[], float]] = {
        "bleu4": lambda: _bleu4(hypotheses, references),
        "meteor": lambda: _meteor(hypotheses, references),
    }
    return {name: values[name] if name in values else others[name]() for name in names}


def words(text: str, characters: bool = False) -> list[str]:
    """Runs of letters and digits, and every other character by itself, in lower case.

    So a text counts the same however its tokenizer put spaces around punctuation ("who's", "who 's", "who ' s").
    characters: whether those of scripts without spaces are words.
    """
    return re.findall(r"\w+|[^\w\s]", apart(text.lower()) if characters else text.lower())


def sentences(text: str) -> str:
    """The text with a new line behind each sentence."""
    return "\n".join(part for part in re.split(r"(?<=[.!?])\s+|(?<=[。！？])|\n+", text) if part.strip())


@functools.cache
def has_wordnet() -> bool:
    """Whether nltk has WordNet's data on this machine (nltk.download("wordnet"))."""
    try:
        from nltk.corpus import wordnet

        wordnet.ensure_loaded()
    except (ImportError, LookupError):
        return False
    return True


class _NoSynonyms:
    """Stands in for WordNet: no word has synonyms."""

    def synsets(self, word: str) -> list[Any]:
        return []


class _Words:
    """rouge-score's tokenizer for texts in other letters than a to z, which its own leaves out."""

    def tokenize(self, text: str) -> list[str]:
        return scripts.words(text)


def _rouge(
    names: Sequence[str], hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    from rouge_score.rouge_scorer import RougeScorer

    plain = latin(text for right in references for text in right)
    scorer = RougeScorer(list(names), use_stemmer=True, tokenizer=None if plain else _Words())
    totals = dict.fromkeys(names, 0.0)
    for hypothesis, right in zip(hypotheses, references, strict=True):
        rouge = scorer.score_multi([sentences(text) for text in right], sentences(hypothesis))
        for name in names:
            totals[name] += float(rouge[name].fmeasure)
    return {name: 100.0 * total / len(hypotheses) for name, total in totals.items()}


def _bleu4(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    from sacrebleu.metrics import BLEU

    most = max(map(len, references))
    characters = by_characters(text for right in references for text in right)
    right_words = [[words(text, characters) for text in right] for right in references]
    short = all(len(text) < 4 for right in right_words for text in right)
    # Stream n holds the n-th reference of each example; None where it has fewer.
    streams: Any = [
        [" ".join(right[n]) if n < len(right) else None for right in right_words] for n in range(most)
    ]
    metric = BLEU(tokenize="none", smooth_method="none", force=True, effective_order=short)
    return float(
        metric.corpus_score([" ".join(words(text, characters)) for text in hypotheses], streams).score
    )


def _meteor(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    from nltk.corpus import wordnet
    from nltk.translate.meteor_score import meteor_score

    synonyms: Any = wordnet if has_wordnet() else _NoSynonyms()
    characters = by_characters(text for right in references for text in right)
    total = 0.0
    for hypothesis, right in zip(hypotheses, references, strict=True):
        known = [words(text, characters) for text in right]
        total += float(meteor_score(known, words(hypothesis, characters), wordnet=synonyms))
    return 100.0 * total / len(hypotheses)
