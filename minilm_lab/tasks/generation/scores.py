"""ROUGE, BLEU-4 and METEOR of generated texts, by the libraries of the field, on the papers' scale (0 to 100)."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Callable, Sequence
from typing import Any

from minilm_lab.errors import LabError

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
_WORDS = "words: runs of letters and digits, every other character by itself, lower case"


METRICS = {
    "rouge1": _ROUGE.format(what="unigram (ROUGE-1)"),
    "rouge2": _ROUGE.format(what="bigram (ROUGE-2)"),
    "rougeL": _ROUGE.format(what="longest common subsequence (ROUGE-L, the text as one sentence)"),
    "rougeLsum": _ROUGE.format(
        what="summary-level longest common subsequence (ROUGE-L as reported for CNN/DailyMail; sentences end at a "
        "new line and after . ! ?)"
    ),
    "bleu4": "100 x corpus BLEU with n-grams up to 4, brevity penalty against the closest reference length, no "
    f"smoothing (sacrebleu); {_WORDS}",
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


def words(text: str) -> list[str]:
    """Runs of letters and digits, and every other character by itself, in lower case.

    So a text counts the same however its tokenizer put spaces around punctuation ("who's", "who 's", "who ' s").
    """
    return re.findall(r"\w+|[^\w\s]", text.lower())


def sentences(text: str) -> str:
    """The text with a new line behind each sentence."""
    return "\n".join(part for part in re.split(r"(?<=[.!?])\s+|\n+", text) if part.strip())


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


def _rouge(
    names: Sequence[str], hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(names), use_stemmer=True)
    totals = dict.fromkeys(names, 0.0)
    for hypothesis, right in zip(hypotheses, references, strict=True):
        rouge = scorer.score_multi([sentences(text) for text in right], sentences(hypothesis))
        for name in names:
            totals[name] += float(rouge[name].fmeasure)
    return {name: 100.0 * total / len(hypotheses) for name, total in totals.items()}


def _bleu4(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    from sacrebleu.metrics import BLEU

    most = max(map(len, references))
    # Stream n holds the n-th reference of each example; None where it has fewer.
    streams: Any = [
        [" ".join(words(right[n])) if n < len(right) else None for right in references] for n in range(most)
    ]
    metric = BLEU(tokenize="none", smooth_method="none", force=True, effective_order=False)
    return float(metric.corpus_score([" ".join(words(text)) for text in hypotheses], streams).score)


def _meteor(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    from nltk.corpus import wordnet
    from nltk.translate.meteor_score import meteor_score

    synonyms: Any = wordnet if has_wordnet() else _NoSynonyms()
    total = 0.0
    for hypothesis, right in zip(hypotheses, references, strict=True):
        total += float(meteor_score([words(text) for text in right], words(hypothesis), wordnet=synonyms))
    return 100.0 * total / len(hypotheses)
