"""XNLI's layout: one configuration a language, some of them missing."""

import json
import logging

import numpy as np
import pytest

from minilm_lab.errors import LabError
from minilm_lab.tasks.hub import TrainFrom
from minilm_lab.tasks.multilingual import MultilingualTask
from tasks.helpers import judged, pairs_of

NAMES = ["no", "yes"]


@pytest.fixture
def data(tmp_path):
    """en has train, validation and test; fr no train; de is empty of test; sw is not there."""
    folder = tmp_path / "data"
    there = {
        "en": ("train", "validation", "test"),
        "fr": ("validation", "test"),
        "de": ("train", "validation"),
    }
    head = []
    for language, splits in there.items():
        head.append(f"- config_name: {language}\n  data_files:\n")
        for split in splits:
            head.append(f"  - split: {split}\n    path: {language}/{split}*\n")
            file = folder / language / f"{split}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            count = 4 if language == "fr" else 2
            rows = [{"a": f"{language} {split} {n}", "b": "x", "label": NAMES[n % 2]} for n in range(count)]
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "README.md").write_text(f"---\nconfigs:\n{''.join(head)}---\n")
    return str(folder)


def make(path, **fields):
    settings = {"languages": ["en", "fr", "de"], "text": ["a", "b"], "labels": NAMES, "test_split": "test"}
    return MultilingualTask(path=path, **settings | fields)


def test_languages_are_joined_and_scored_apart(data, tmp_path):
    task = make(data)
    splits = task.load(None, tmp_path)
    assert [text for text, _ in pairs_of(splits.train)] == ["en train 0", "en train 1"]
    assert splits.dev["group"][:] == ["en"] * 2 + ["fr"] * 4 + ["de"] * 2
    assert [i for i in splits.dev["id"][:] if i.startswith("fr")] == [f"fr-validation-{n}" for n in range(4)]
    assert all(
        text.startswith(group)
        for (text, _), group in zip(pairs_of(splits.dev), splits.dev["group"][:], strict=True)
    )
    assert splits.data_note == "no test data for 1 of 3 languages: de"
    # All right in English, half in French, nothing in German.
    right = [True, True, True, False, True, False, False, False]
    outputs = [
        np.asarray([float(label != ok), float(label == ok)])
        for label, ok in zip(splits.dev["label"][:], right, strict=True)
    ]
    outcome = judged(task, outputs, splits.dev, None, "dev")
    assert outcome.scores == {"accuracy": 50.0, "accuracy_de": 0.0, "accuracy_en": 100.0, "accuracy_fr": 50.0}
    test = {"accuracy": 75.0, "accuracy_en": 100.0, "accuracy_fr": 50.0}
    scores = task.combine({"dev": outcome.scores, "test": test})
    assert scores["accuracy_test"] == 75.0 and scores["accuracy_fr_test"] == 50.0
    definitions = task.definitions(scores)
    assert set(definitions) == set(scores)
    for name, told in definitions.items():
        assert ("mean over the languages" in told) == (name in ("accuracy", "accuracy_test"))


def test_translate_train_all(data, tmp_path):
    splits = make(data, train_languages=None, test_split=None).load(None, tmp_path)
    assert sorted(text for text, _ in pairs_of(splits.train)) == [
        "de train 0",
        "de train 1",
        "en train 0",
        "en train 1",
    ]
    assert splits.data_note == "no training data for 1 of 3 languages: fr"
    assert splits.extra == {}


def test_languages_without_data_are_said(data, tmp_path):
    splits = make(data, languages=["en", "sw", "de", "ur"], test_split=None).load(None, tmp_path)
    assert set(splits.dev["group"][:]) == {"en", "de"}
    assert splits.data_note == "no dev data for 2 of 4 languages: sw, ur"
    with pytest.raises(LabError, match=r"task.languages=\['sw', 'ur'\]: .* none of these configurations"):
        make(data, languages=["sw", "ur"]).load(None, tmp_path)
    with pytest.raises(
        LabError, match=r"task.train_languages=\['fr'\]: .* no 'train' split .*fr: validation, test"
    ):
        make(data, train_languages=["fr"]).load(None, tmp_path)
    with pytest.raises(LabError, match=r"no 'valid' split in any of them \(en: train, validation, test;"):
        make(data, dev_split="valid").load(None, tmp_path)


def test_training_on_other_data(data, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for split in ("train", "validation"):
        (other / f"{split}.jsonl").write_text(
            '{"a": "p", "b": "q", "label": "yes"}\n{"a": "r", "b": "s", "label": "no"}\n'
        )
    task = make(data, train_from=TrainFrom(path=str(other)), languages=["fr"], test_split=None)
    splits = task.load(None, tmp_path)
    assert (pairs_of(splits.train), splits.train["label"][:]) == ([("p", "q"), ("r", "s")], [1, 0])
    assert splits.data_note == f"trained on {other}"


def test_official_numbers_are_those_of_one_language(data, tmp_path):
    assert (
        make(data, languages=["en", "de"], official={"train": 2, "dev": 2, "test": 2})
        .load(None, tmp_path)
        .data_note
        == "no test data for 1 of 2 languages: de"
    )
    assert (
        make(data, languages=["en"], official={"train": 5, "dev": 9, "test": 2})
        .load(None, tmp_path)
        .data_note
        == "subset: train 2 of 5, dev 2 of 9"
    )


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"languages": []}, "task.languages"),
        ({"languages": ["en", "en"]}, "task.languages"),
        ({"train_languages": []}, "task.train_languages"),
        ({"config": "en"}, "task.config=en"),
        ({"dev_fraction": 0.1}, "task.dev_fraction=0.1"),
        ({"extra_splits": {"a": "b"}}, "use task.test_split"),
        ({"official": {"validation": 3}}, "task.official: 'validation'"),
    ],
)
def test_impossible_fields(fields, message):
    with pytest.raises(LabError, match=message):
        make("x", **fields)


def test_empty_texts_are_counted(data, tmp_path, caplog):
    file = tmp_path / "data" / "fr" / "validation.jsonl"
    file.write_text('{"a": "", "b": "x", "label": "no"}\n' + file.read_text())
    with caplog.at_level(logging.WARNING):
        make(data, test_split=None).load(None, tmp_path)
    assert "1 of 5 texts in column 'a' of 'validation' are empty" in caplog.text


def test_real_xnli(shared_hub, tmp_path):
    languages = ["en", "fr", "de", "sw", "zh", "hi"]
    task = MultilingualTask(
        path="facebook/xnli",
        languages=languages,
        text=["premise", "hypothesis"],
        labels=["entailment", "neutral", "contradiction"],
        test_split="test",
        train_from=TrainFrom(path="nyu-mll/glue", config="mnli"),
    )
    splits = task.load(shared_hub, tmp_path)
    assert len(splits.dev) == 5 * 2490 and len(splits.extra["test"]) == 5 * 5010
    # XNLI is balanced: 830 dev examples of each class in each language.
    for language in languages[:-1]:
        own = [
            n
            for n, group in zip(splits.dev["label"][:], splits.dev["group"][:], strict=True)
            if group == language
        ]
        assert [own.count(n) for n in range(3)] == [830] * 3
    assert "no dev data for 1 of 6 languages: hi" in splits.data_note
