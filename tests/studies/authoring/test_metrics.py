"""Every metric against a computation of its own, and the floors."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score

from minilm_lab.studies.authoring import floors, metrics
from minilm_lab.studies.authoring.metrics import Judged, facts_of, score
from minilm_lab.studies.authoring.records import Record

LABELS = ["Lamps", "Sofas & Seats", "Desks", "Rugs"]


def judged(task: str, rows, **common) -> list[Judged]:
    return [Judged(task, text, right, **{"inputs": {}, **common}) for text, right in rows]


def test_classification_against_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    right = [LABELS[n] for n in draw.integers(0, 3, 60)]  # rugs are never right
    said = [LABELS[n] if n < 4 else "chairs" for n in draw.integers(0, 5, 60)]
    dressed = [f" {text.lower()}. " if n % 2 else text.upper() for n, text in enumerate(said)]
    likeliest = [LABELS[n] for n in draw.integers(0, 4, 60)]
    some = [
        Judged("classification", t, r, {}, LABELS, best)
        for t, r, best in zip(dressed, right, likeliest, strict=True)
    ]
    values = score(some)
    assert values["class_accuracy"] == pytest.approx(100 * np.mean(np.asarray(said) == np.asarray(right)))
    macro = f1_score(right, said, labels=LABELS, average="macro", zero_division=0)
    assert values["class_f1_macro"] == pytest.approx(100 * macro)
    assert values["class_valid"] == pytest.approx(100 * np.mean([text in LABELS for text in said]))
    assert values["class_likelihood"] == pytest.approx(100 * np.mean(np.asarray(likeliest) == right))
    assert values["mean"] == values["class_f1_macro"]


def test_intent_against_scikit_learn() -> None:
    draw = np.random.default_rng(1)
    right = ["no" if x < 0.2 else "yes" for x in draw.random(80)]
    said = ["no" if x < 0.3 else "maybe" if x < 0.4 else "yes" for x in draw.random(80)]
    values = score(
        judged("intent", zip((f"{t.title()}!" for t in said), right, strict=True), labels=["yes", "no"])
    )
    rare = f1_score(right, said, labels=["no"], average="macro")
    assert values["intent_f1_rare"] == pytest.approx(100 * rare)
    both = f1_score(right, said, labels=["yes", "no"], average="macro")
    assert values["intent_f1_macro"] == pytest.approx(100 * both)
    with pytest.warns(UserWarning, match="y_pred contains classes"):
        balanced = balanced_accuracy_score(right, said)
    assert values["intent_balanced_accuracy"] == pytest.approx(100 * balanced)
    assert values["intent_valid"] == pytest.approx(100 * np.mean([t != "maybe" for t in said]))
    assert "intent_likelihood" not in values


def test_rewriting_by_hand() -> None:
    some = [
        Judged(
            "rewriting",
            "Acme lamp X1 wood",
            "Acme lamp X1",
            {"query": "acme x1", "features": "X1 of 12 parts"},
        ),
        Judged("rewriting", "A seat", "Sofa Z9", {"query": "sofa z9", "features": "Z9 seat"}),
    ]
    values = score(some)
    # ROUGE-L F1: 3 of 4 and 3 words; nothing. Numbers in input and title: X1 and Z9; one is kept.
    assert values["rewrite_rougeL"] == pytest.approx(100 * (2 * 0.75 / 1.75) / 2)
    assert values["rewrite_query_cover"] == pytest.approx(50) and values["rewrite_numbers_kept"] == 50
    # BLEU-4 over the corpus: 3 of 6 words, 2 of 4 pairs, 1 of 2 triples, 0 of 1.
    assert values["rewrite_bleu4"] == 0.0
    whole = score([Judged("rewriting", "a b c d e", "a b c d f", {})])
    expected = 100 * math.exp((math.log(4 / 5) + math.log(3 / 4) + math.log(2 / 3) + math.log(1 / 2)) / 4)
    assert whole["rewrite_bleu4"] == pytest.approx(expected)


def test_questions_by_hand() -> None:
    rows = [("$9.99", "$9.99"), ("Not stated.", "not stated"), ("not stated", "$3"), ("red lamp", "the lamp")]
    values = score(judged("qa", rows))
    assert values["qa_token_f1"] == pytest.approx(100 * (1 + 1 + 0 + 2 / 3) / 4)
    assert values["qa_not_stated_f1"] == pytest.approx(
        100 * 2 / 3
    )  # of two said one is right, of one right one is said


def test_advertisements_by_hand() -> None:
    text = "Meet the Acme X1. Now 50% off, with Bluetooth and 2 years."
    assert facts_of(text) == ["acme", "x1", "50", "bluetooth", "2"]
    given = {"title": "Acme lamp X1", "features": "2 years of warranty; 500 lumen"}
    values = score([Judged("ads", text, "", given), Judged("ads", "A lamp. A lamp", "", given)])
    assert values["ads_grounding"] == pytest.approx(60)  # neither 50 (of 500) nor Bluetooth
    tokens = [metrics.of_texts.words(t) for t in (text, "A lamp. A lamp")]
    one = Counter(w for part in tokens for w in part)
    two = Counter(pair for part in tokens for pair in pairwise(part))
    assert values["ads_distinct1"] == pytest.approx(100 * len(one) / one.total())
    assert values["ads_distinct2"] == pytest.approx(100 * len(two) / two.total())
    assert values["ads_words"] == sum(map(len, tokens)) / 2
    same = metrics.self_bleu(["a b c d e", "a b c d e"])
    assert same == pytest.approx(100) and metrics.self_bleu(["a b c d e", "v w x y z"]) < 10
    assert "mean" not in values


def test_every_metric_has_its_definition() -> None:
    every = score(
        [
            Judged("classification", "a", "a", {}, ["a"], "a"),
            Judged("intent", "yes", "yes", {}, ["yes", "no"], "yes"),
            Judged("rewriting", "a", "a", {}),
            Judged("qa", "a", "a", {}),
            Judged("ads", "a", "", {}),
        ]
    )
    assert set(every) == set(metrics.METRICS)


def record(number: int, text: str, output: str, labels: list[str] | None = LABELS) -> Record:
    task, asked = ("classification", "category") if labels else ("rewriting", "title")
    given = {"title": text} if labels else {"query": "q", "features": text}
    whose = {"seller": {k: v for k, v in given.items() if k != "query"}, "customer": {"query": "q"}}
    return Record(task, f"p{number}/{asked}", whose, list(given), asked, output, labels, "", "", "data")


def test_the_floors() -> None:
    draw = np.random.default_rng(3)
    words = {"Lamps": "light bulb shade", "Desks": "drawer wood top", "Rugs": "wool soft floor"}
    made = []
    for n in range(90):
        label = list(words)[n % 3] if n % 4 else "Lamps"
        text = " ".join(draw.choice(words[label].split(), 2)) + f" item {draw.integers(9)}"
        made.append(record(n, text, label))
    train, dev = made[:60], made[60:]
    titles = [record(100 + n, f"feature {n}", f"Title {n % 2}", None) for n in range(5)]
    assert set(floors.answers("majority", train, dev)) == {"Lamps"}
    assert floors.answers("copy", train + titles, [*dev, titles[0]]) == [None] * 30 + ["feature 0"]
    bag = floors.answers("bag_of_words", train, [*dev, titles[1]])
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)
    model.fit(vectors.fit_transform([r.input() for r in train]), [r.output for r in train])
    assert bag[:-1] == list(model.predict(vectors.transform([r.input() for r in dev]))) and bag[-1] is None
    assert np.mean([a == r.output for a, r in zip(bag, dev, strict=False)]) > 0.9
    assert floors.answers("majority", train, titles) == [None] * 5  # nothing to learn from
