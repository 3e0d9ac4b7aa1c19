"""How good an author's answers are, task by task, each number with its definition; texts in, numbers from 0 to 100 out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from minilm_lab.studies.authoring.spec import NOT_STATED
from minilm_lab.studies.authoring.things import words
from minilm_lab.tasks import qa_scores
from minilm_lab.tasks.generation import scores as of_texts

_LABEL = (
    "compared in lower case without punctuation and white space around; an answer outside the list is wrong"
)
METRICS = {
    "class_accuracy": f"100 x share of the products whose generated department is right; {_LABEL}",
    "class_f1_macro": "100 x mean of 2 TP / (2 TP + FP + FN) over the whole fixed list of departments, of which one that is "
    f"neither right nor predicted counts 0; {_LABEL}",
    "class_valid": "100 x share of the generated departments that are in the list",
    "class_likelihood": "100 x share of the products whose right department, its end token included, is the likeliest of the list",
    "rewrite_rougeL": of_texts.METRICS["rougeL"] + "; of titles",
    "rewrite_bleu4": of_texts.METRICS["bleu4"] + "; of titles",
    "rewrite_query_cover": "100 x mean share of the query's words that the title holds (runs of letters, digits and .+-, lower case)",
    "rewrite_numbers_kept": "100 x share of the words with a digit that stand in both the input and the right title and are in the "
    "title; over all titles",
    "intent_f1_rare": "100 x F1 of the verdict that is rarer among the right ones; " + _LABEL,
    "intent_f1_macro": "100 x mean F1 of yes and no; " + _LABEL,
    "intent_balanced_accuracy": "100 x mean recall of yes and no; " + _LABEL,
    "intent_valid": "100 x share of the answers that are yes or no",
    "intent_likelihood": "100 x mean recall of yes and no where the likelier of the two is the answer",
    "qa_token_f1": "100 x mean F1 of the words of answer and right answer (SQuAD 1.1's normalisation)",
    "qa_not_stated_f1": f"100 x F1 of saying '{NOT_STATED}' where that is right",
    "ads_grounding": "100 x share of the numbers and of the capitalised words that begin no sentence, of all texts, that stand in "
    "their input",
    "ads_distinct1": "100 x distinct words / words of all texts",
    "ads_distinct2": "100 x distinct pairs of neighbouring words / pairs of all texts",
    "ads_self_bleu": "mean of each text's BLEU-4 (smoothed, sacrebleu) against all others: lower is more diverse",
    "ads_words": "mean words of a text",
    "mean": "mean of class_f1_macro, rewrite_rougeL, intent_f1_macro and qa_token_f1, of those that were asked",
}
"""Metric -> its definition."""
MEAN = ("class_f1_macro", "rewrite_rougeL", "intent_f1_macro", "qa_token_f1")


@dataclass(frozen=True)
class Judged:
    """An answer and what it is judged by."""

    task: str
    text: str
    right: str
    """"" where nobody wrote an answer."""
    inputs: Mapping[str, str]
    labels: Sequence[str] | None = None
    likeliest: str | None = None
    """The likeliest of `labels`; None where nobody asked."""


def score(judged: Sequence[Judged]) -> dict[str, float]:
    """All metrics of the tasks that there are, and their mean."""
    values: dict[str, float] = {}
    for task, metrics in _OF_TASKS.items():
        some = [one for one in judged if one.task == task]
        if some:
            values |= metrics(some)
    parts = [values[name] for name in MEAN if name in values]
    return {**values, **({"mean": sum(parts) / len(parts)} if parts else {})}


def as_label(text: str) -> str:
    """An answer in the form in which labels are compared."""
    return re.sub(r"^\W+|\W+$", "", text.strip().lower())


def f1_of(label: str, predicted: Sequence[str], right: Sequence[str]) -> float:
    """F1, 0 to 1; 0 for a label that is neither right nor predicted."""
    both = sum(p == r == label for p, r in zip(predicted, right, strict=True))
    every = sum(p == label for p in predicted) + sum(r == label for r in right)
    return 2 * both / every if every else 0.0


def _labelled(some: Sequence[Judged]) -> tuple[list[str], list[str], list[str]]:
    labels = list(dict.fromkeys(as_label(label) for one in some for label in one.labels or []))
    return labels, [as_label(one.text) for one in some], [as_label(one.right) for one in some]


def _class(some: Sequence[Judged]) -> dict[str, float]:
    labels, predicted, right = _labelled(some)
    values = {
        "class_accuracy": _mean([p == r for p, r in zip(predicted, right, strict=True)]),
        "class_f1_macro": _mean([f1_of(label, predicted, right) for label in labels]),
        "class_valid": _mean([p in labels for p in predicted]),
    }
    if all(one.likeliest is not None for one in some):
        values["class_likelihood"] = _mean([one.likeliest == one.right for one in some])
    return values


def _intent(some: Sequence[Judged]) -> dict[str, float]:
    labels, predicted, right = _labelled(some)
    rare = min(labels, key=lambda label: (right.count(label), label))
    values = {
        "intent_f1_rare": 100 * f1_of(rare, predicted, right),
        "intent_f1_macro": _mean([f1_of(label, predicted, right) for label in labels]),
        "intent_balanced_accuracy": _recall(labels, predicted, right),
        "intent_valid": _mean([p in labels for p in predicted]),
    }
    if all(one.likeliest is not None for one in some):
        values["intent_likelihood"] = _recall(labels, [as_label(one.likeliest or "") for one in some], right)
    return values


def _recall(labels: Sequence[str], predicted: Sequence[str], right: Sequence[str]) -> float:
    """100 x mean over the labels that are ever right of the share of them that was found."""
    pairs = list(zip(predicted, right, strict=True))
    there = [label for label in labels if label in right]
    return _mean([sum(p == r == label for p, r in pairs) / right.count(label) for label in there])


def _rewrite(some: Sequence[Judged]) -> dict[str, float]:
    texts, right = [one.text for one in some], [[one.right] for one in some]
    library = of_texts.score(["rougeL", "bleu4"], texts, right)
    covers, wanted, found = [], 0, 0
    for one in some:
        there = set(words(one.text))
        query = set(words(one.inputs.get("query", "")))
        if query:
            covers.append(len(query & there) / len(query))
        numbers = _numbers(" ".join(one.inputs.values())) & _numbers(one.right)
        wanted, found = wanted + len(numbers), found + len(numbers & _numbers(one.text))
    return {
        "rewrite_rougeL": library["rougeL"],
        "rewrite_bleu4": library["bleu4"],
        "rewrite_query_cover": _mean(covers or [0.0]),
        "rewrite_numbers_kept": 100 * found / wanted if wanted else 0.0,
    }


def _numbers(text: str) -> set[str]:
    return {word for word in words(text) if any(letter.isdigit() for letter in word)}


def _qa(some: Sequence[Judged]) -> dict[str, float]:
    right = [as_label(one.right) for one in some]
    said = [as_label(one.text) for one in some]
    return {
        "qa_token_f1": _mean([qa_scores.f1(one.text, [one.right], empty_agrees=True) for one in some]),
        "qa_not_stated_f1": 100 * f1_of(NOT_STATED, said, right),
    }


def _ads(some: Sequence[Judged]) -> dict[str, float]:
    split = [of_texts.words(one.text) for one in some]
    facts = [(fact, " ".join(one.inputs.values()).lower()) for one in some for fact in facts_of(one.text)]
    return {
        "ads_grounding": _mean([_stands_in(fact, given) for fact, given in facts] or [0.0]),
        "ads_distinct1": _distinct(split, 1),
        "ads_distinct2": _distinct(split, 2),
        "ads_self_bleu": self_bleu([one.text for one in some]),
        "ads_words": sum(map(len, split)) / len(split),
    }


def facts_of(text: str) -> list[str]:
    """Numbers, and capitalised words that begin no sentence, lower case: what an advertisement must not invent."""
    facts = []
    for sentence in re.split(r"(?<=[.!?:])\s+|\n+", text):
        for place, word in enumerate(re.findall(r"[^\s,;()\"]+", sentence)):
            bare = re.sub(r"^\W+|\W+$", "", word)
            if bare and (any(c.isdigit() for c in bare) or (place and bare[0].isupper() and len(bare) > 1)):
                facts.append(bare.lower())
    return facts


def grounding(text: str, inputs: Mapping[str, str]) -> float:
    """Share, 0 to 1, of the facts of one text that stand in its input; 1 without facts."""
    given, facts = " ".join(inputs.values()).lower(), facts_of(text)
    return sum(_stands_in(fact, given) for fact in facts) / len(facts) if facts else 1.0


def _stands_in(fact: str, given: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(fact)}(?!\w)", given) is not None


def _distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    counted = Counter(tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1))
    return 100 * len(counted) / counted.total() if counted else 0.0


def self_bleu(texts: Sequence[str]) -> float:
    """0 for a single text."""
    from sacrebleu.metrics import BLEU

    if len(texts) < 2:
        return 0.0
    metric = BLEU(effective_order=True)
    values = [metric.sentence_score(t, [*texts[:n], *texts[n + 1 :]]).score for n, t in enumerate(texts)]
    return float(sum(values) / len(values))


def _mean(values: Sequence[float]) -> float:
    return 100.0 * sum(values) / len(values)


_OF_TASKS: dict[str, Callable[[Sequence[Judged]], dict[str, float]]] = {
    "classification": _class,
    "rewriting": _rewrite,
    "intent": _intent,
    "qa": _qa,
    "ads": _ads,
}
