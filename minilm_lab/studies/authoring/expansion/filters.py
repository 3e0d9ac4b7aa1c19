"""Which answers of a teacher are taken; a reason for each that is not."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence

from minilm_lab.studies.authoring.metrics import as_label, grounding
from minilm_lab.studies.authoring.records import Record
from minilm_lab.studies.authoring.things import words
from minilm_lab.tasks.generation import scores as of_texts

GROUNDED = 0.9
NEAR = 0.7
"""ROUGE-L F1 from which a text is a copy of another (Self-Instruct)."""
LONGEST = 120
"""Words of an answer."""
REASONS = {
    "no_json": "not one JSON object with a text as its output",
    "cut": "cut at the greatest length",
    "empty": "no words",
    "long": f"more than {LONGEST} words",
    "refusal": "the teacher refuses, or speaks of itself",
    "personal": "an e-mail address, a telephone or card number that was not given",
    "label": "not in the list",
    "query": "a title without a word of the query",
    "numbers": "a title that lost a model number of its input",
    "invented": f"less than {GROUNDED:.0%} of its numbers and names stand in the input",
    "near": f"ROUGE-L of {NEAR} or more with an accepted record or a seed",
    "near_dev": f"its input has ROUGE-L of {NEAR} or more with one that is judged",
    "private": "it gives what is private, and the teacher is elsewhere",
}
"""Reason -> what it means."""
_REFUSAL = re.compile(r"\b(as an ai|i am sorry|i'm sorry|i cannot|i can't|language model|unable to)\b", re.I)
_PERSONAL = re.compile(
    r"[\w.+-]+@[\w-]+\.\w{2,}|\+\d[\d ()-]{7,}\d|\(?\b\d{3}\)?[ -]\d{3}[ -]\d{4}\b|\b(?:\d[ -]?){13,16}\b"
)


def output_of(text: str) -> str | None:
    """The output of a strict reply: one JSON object {"output": "…"}, a fence around it aside; None for anything else."""
    bare = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip())
    try:
        values = json.loads(bare)
    except ValueError:
        return None
    if not isinstance(values, dict) or set(values) != {"output"} or not isinstance(values["output"], str):
        return None
    return " ".join(values["output"].split())


def reason_against(record: Record, output: str) -> str | None:
    """Why an answer to a record is not taken; None where it is. Of labels the canonical spelling must be given."""
    count = len(of_texts.words(output))
    given = " ".join(record.inputs().values())
    if not re.search(r"\w", output):
        return "empty"
    if record.labels is not None:
        return None if output in record.labels else "label"
    if count > LONGEST:
        return "long"
    if _REFUSAL.search(output):
        return "refusal"
    if any(found.group() not in given for found in _PERSONAL.finditer(output)):
        return "personal"
    if record.task == "rewriting":
        there = set(words(output))
        if not set(words(record.value("query"))) <= there:
            return "query"
        if not {w for w in words(record.value("modelno")) if any(c.isdigit() for c in w)} <= there:
            return "numbers"
    if record.task == "ads" and grounding(output, record.inputs()) < GROUNDED:
        return "invented"
    return None


def canonical(record: Record, output: str) -> str:
    """An answer as its list spells it."""
    for label in record.labels or []:
        if as_label(label) == as_label(output):
            return label
    return output


class Near:
    """Texts, and whether another is near one of them by ROUGE-L.

    F1 = 2 L / (m + n) with L ≤ the words that two texts share, counted, and ≤ the shorter: most pairs are dismissed by
    that, without the longest common subsequence.
    """

    def __init__(self, texts: Sequence[str] = ()) -> None:
        self._known: list[tuple[list[str], Counter[str]]] = []
        #: Pairs that were asked for, and those of them that needed the whole computation.
        self.pairs = self.computed = 0
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Know a text from now on."""
        tokens = of_texts.words(text)
        self._known.append((tokens, Counter(tokens)))

    def has(self, text: str) -> bool:
        """Whether a known text has ROUGE-L F1 (words as they are, no stems) of NEAR or more with this one."""
        tokens = of_texts.words(text)
        counted = Counter(tokens)
        for other, theirs in self._known:
            self.pairs += 1
            total = len(tokens) + len(other)
            if not total or 2 * min(len(tokens), len(other)) < NEAR * total:
                continue
            if 2 * (counted & theirs).total() < NEAR * total:
                continue
            self.computed += 1
            if 2 * common(tokens, other) >= NEAR * total:
                return True
        return False


def common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        left = 0
        for place, other in enumerate(b, 1):
            left, row[place] = row[place], left + 1 if word == other else max(row[place], row[place - 1])
    return row[-1]
