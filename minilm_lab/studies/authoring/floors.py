"""What needs no author: copying the input, the commonest answer, a bag of words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from minilm_lab.studies.authoring.records import Record

KINDS = ("copy", "majority", "bag_of_words")
"""copy: the last, longest part of the input as it stands; majority: the commonest answer of the training records that ask the
same; bag_of_words: logistic regression on TF-IDF of one and two words, for tasks with a list of answers."""


def answers(kind: str, train: Sequence[Record], asked: Sequence[Record]) -> list[str | None]:
    """The answers of a floor to the records `asked`; None where it has none."""
    if kind == "copy":
        return [_longest(record) if record.labels is None else None for record in asked]
    groups = {(record.task, record.asked) for record in asked}
    found: dict[int, str] = {}
    for group in sorted(groups):
        places = [n for n, record in enumerate(asked) if (record.task, record.asked) == group]
        known = [record for record in train if (record.task, record.asked) == group and record.output]
        some = [asked[n] for n in places]
        if known:
            texts = _common(known, some) if kind == "majority" else _bag(known, some)
            found |= {n: text for n, text in zip(places, texts, strict=True) if text is not None}
    return [found.get(n) for n in range(len(asked))]


def _longest(record: Record) -> str:
    inputs = record.inputs()
    return list(inputs.values())[-1] if inputs else ""


def _common(known: Sequence[Record], some: Sequence[Record]) -> list[str | None]:
    counted = Counter(record.output for record in known)
    commonest = min(counted, key=lambda text: (-counted[text], text))
    return [commonest] * len(some)


def _bag(known: Sequence[Record], some: Sequence[Record]) -> list[str | None]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    if some[0].labels is None or len({record.output for record in known}) < 2:
        return [None] * len(some)
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    # Rare answers count as much as common ones, as in the metrics.
    model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)
    model.fit(vectors.fit_transform([record.input() for record in known]), [r.output for r in known])
    return [str(label) for label in model.predict(vectors.transform([record.input() for record in some]))]
