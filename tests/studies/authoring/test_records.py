"""The rule of interleaving, records and what is made of products and reviews."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minilm_lab.errors import LabError
from minilm_lab.studies.authoring import packages, records, spec
from minilm_lab.studies.authoring.gathering import gather
from minilm_lab.studies.authoring.records import Record, parsed, position
from minilm_lab.studies.authoring.things import Thing, query_of, records_of

LABELS = {"category": ["Lamps", "Sofas"], "verdict": ["yes", "no"]}
LAMP = {
    "title": "Acme lamp X1",
    "features": "Good light; Two years; wood",
    "category": "Lamps",
    "price": "$9",
    "rating": "4.5 of 5",
    "query": "acme x1",
}


def made(kind: str = "product", interleave: bool = True, **values: str) -> dict[tuple[str, str], Record]:
    thing = Thing("shop-1", kind, {**(LAMP if kind == "product" else {}), **values}, "here", "none")
    return {(record.task, record.asked): record for record in records_of(thing, LABELS, interleave)}


def test_every_feature_is_given_in_one_task_and_asked_in_another() -> None:
    spec.check_interleaved()
    # Worked out again from the forms, by hand.
    for key in spec.FEATURES:
        given = {form.task for form in spec.FORMS if key in form.given}
        asked = {form.task for form in spec.FORMS if form.asked == key}
        assert {(a, b) for a in given for b in asked if a != b}, key
    for task in spec.TASKS:
        forms = [form for form in spec.FORMS if form.task != task]
        lacking = {form.asked for form in spec.FORMS if form.task == task} - set(spec.MADE)
        if lacking - {form.asked for form in forms}:
            with pytest.raises(LabError, match="interleave"):
                spec.check_interleaved(forms)


def test_each_task_has_six_wordings_and_one_is_held_out() -> None:
    assert set(spec.WORDINGS) == set(spec.TASKS)
    for wordings in spec.WORDINGS.values():
        assert len(set(wordings)) == 6
        assert len({"{labels}" in w for w in wordings}) == 1 and len({"{asked}" in w for w in wordings}) == 1
    used = {Record("qa", f"p/{n}", {}, [], "price", "x", None, "", "", "").wording() for n in range(200)}
    assert used == set(range(6)) - {spec.HELD_OUT}


def test_a_product_becomes_records_of_every_task() -> None:
    found = made()
    assert set(found) == {
        ("classification", "category"), ("rewriting", "title"), ("qa", "price"), ("qa", "rating"),
        ("qa", "features"), ("qa", "query"), ("ads", "ad"),
    }  # fmt: skip
    record = found["classification", "category"]
    assert record.input() == "Title: Acme lamp X1" and record.output == "Lamps"
    assert "Lamps; Sofas" in record.instruction(0)
    title = found["rewriting", "title"]
    # In the order of the table of features: the long one last.
    assert title.input() == "Category: Lamps\nQuery: acme x1\nFeatures: Good light; Two years; wood"
    assert title.output == "Acme lamp X1" and title.value("title") == ""  # no answer lies in its own question
    assert found["ads", "ad"].output == ""


def test_a_review_becomes_records() -> None:
    found = made("review", review="I love it", headline="Nice", verdict="no", category="Tops")
    assert found["intent", "verdict"].output == "no" and found["intent", "verdict"].labels == ["yes", "no"]
    assert found["intent", "verdict"].value("verdict") == ""
    assert found["qa", "headline"].output == "Nice" and found["ads", "review"].output == "I love it"
    long = made("review", review="word " * 61, headline="Nice", verdict="no", category="Tops")
    assert ("ads", "review") not in long and ("intent", "verdict") in long


def test_questions_on_what_is_not_given_are_answered_not_stated() -> None:
    said = set()
    for number in range(40):
        thing = Thing(f"shop-{number}", "product", LAMP, "here", "none")
        for record in records_of(thing, LABELS):
            if record.task == "qa" and record.asked in ("price", "rating"):
                there = record.value(record.asked) != ""
                assert record.output == (LAMP[record.asked] if there else spec.NOT_STATED)
                said.add(there)
    assert said == {True, False}
    # A brand that the title says anyway is never "not stated"; one that nobody wrote down is not asked.
    for number in range(20):
        thing = Thing(f"s-{number}", "product", {**LAMP, "brand": "Acme"}, "here", "none")
        (record,) = [r for r in records_of(thing, LABELS) if (r.task, r.asked) == ("qa", "brand")]
        assert record.output == "Acme" and "Brand: Acme" in record.input()
    assert ("qa", "brand") not in made()


def test_without_interleaving_one_feature_is_given() -> None:
    found = made(interleave=False)
    assert all(len(record.given) <= 2 for record in found.values())
    assert found["rewriting", "title"].given == ["features"] if ("rewriting", "title") in found else True
    assert found["classification", "category"].given == ["title"]


def test_queries_are_words_that_the_input_lacks() -> None:
    assert query_of("The Acme Lamp X-100 for desks", "a lamp of wood") == "acme x-100 desks"


def test_a_line_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = list(made().values())
    records.write(tmp_path / "r.jsonl", written)
    assert list(records.read(tmp_path / "r.jsonl")) == written
    line = json.loads(written[0].line())
    assert set(line) == {
        "task", "id", "object", "given", "asked", "output", "labels", "source", "licence", "made_by"
    }  # fmt: skip
    for bad, said in (
        ({**line, "taks": 1}, "Did you mean 'task'"),
        ({key: value for key, value in line.items() if key != "given"}, "lacks given"),
        ({**line, "task": "adds"}, "Did you mean 'ads'"),
        ({**line, "given": ["titel"]}, "Did you mean 'title'"),
        ({**line, "object": {"seller": "x"}}, "object must be"),
        ({**line, "output": "Chairs"}, "not in labels"),
    ):
        with pytest.raises(LabError, match=said):
            parsed(bad, "here")


def test_packages_are_read_and_copies_are_one(shops: Path) -> None:
    products, categories = packages.electronics(shops)
    assert len(products) == 61 and categories == ["Desks", "Lamps", "Sofas"]  # "Rare" has one product
    first = products[1].features
    parts = first["features"].split("; ")
    assert parts[0] == "Good seat X1" and [len(part.split()) for part in parts] == [3, 12, 12]
    assert (first["price"], first["rating"]) == ("$11.99", "1.5 of 5") and products[0].features[
        "rating"
    ] == ""
    assert first["query"] == " ".join(first["title"].lower().split()[:3])
    reviews = packages.reviews(shops)
    assert len(reviews) == 50 and [r.features["verdict"] for r in reviews[:2]] == ["no", "yes"]


def test_nothing_of_a_thing_is_on_both_sides(shops: Path) -> None:
    data = gather(None, None, shops, 0.3, True)
    train, dev = ({record.thing() for record in side} for side in (data.train, data.dev))
    assert train and dev and not train & dev
    assert all((position(record) < 0.3) == (record.thing() in dev) for record in (*data.train, *data.dev))
