"""Data that does not fit, through the finetune command: an error that names the setting, or a counted warning.

That the command line prints such an error without a traceback is tested in tests/commands/test_bad_input.py.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from minilm_lab import hub_access
from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.finetune import plan
from minilm_lab.errors import LabError

from . import span_reference

CSV = "text,label\nthe cat sat,cat\na dog ran,dog\ncat and dog,cat\nno mat,dog\n"


@pytest.fixture
def words(tiny: list[str], tiny_teacher: Path) -> list[str]:
    """A fine-tuning of the tiny teacher that takes a second."""
    return [*tiny, f"source={tiny_teacher}", "tune.batch_size=2", "scale.epochs=1"]


def classified(folder: Path, train: str = CSV, dev: str = CSV) -> list[str]:
    folder.mkdir()
    (folder / "train.csv").write_text(train)
    (folder / "validation.csv").write_text(dev)
    return ["task=classification", f"task.path={folder}", "task.length=24"]


def asked(folder: Path, answers: list[tuple[str, int]]) -> list[str]:
    """Questions on one context, each with an answer and the place where the data says it is."""
    context = "the cat sat on the mat and saw two dogs"
    rows = [
        {
            "id": str(n),
            "question": "who sat?",
            "context": context,
            "answers": {"text": [a], "answer_start": [at]},
        }
        for n, (a, at) in enumerate(answers)
    ]
    folder.mkdir()
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["task=span_qa", f"task.path={folder}", "task.length=60", "task.max_question=16"]


def translated(hub: Path, split: str = "validation") -> list[str]:
    """SQuAD, and XQuAD in German alone, in the hub's layout."""
    span_reference.write_squad(hub / "rajpurkar/squad", sizes=(6, 4), unanswerable=0.0)
    folder = hub / "google/xquad"
    (folder / "xquad.de").mkdir(parents=True)
    row = {
        "id": "1",
        "question": "wer?",
        "context": "der hund",
        "answers": {"text": ["der"], "answer_start": [0]},
    }
    pd.DataFrame([row]).to_parquet(folder / f"xquad.de/{split}-0.parquet")
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: xquad.de\n  data_files:\n  - split: {split}\n    path: xquad.de/{split}-*\n---\n"
    )
    return ["task=xquad", f"paths.hub={hub}", "task.length=60", "task.max_question=16"]


def run(words: list[str]) -> dict[str, Any]:
    """The record of the fine-tuning, made in this process."""
    return plan(compose_command("finetune", words)).make()


def refused(words: list[str], *parts: str) -> str:
    with pytest.raises(LabError) as caught:
        run(words)
    for part in parts:
        assert part in str(caught.value), f"{part!r} is not in: {caught.value}"
    return str(caught.value)


def test_labels_outside_the_declared_classes(words: list[str], tmp_path: Path) -> None:
    task = classified(tmp_path / "data", dev=CSV + "a bird,bird\n")
    refused(
        [*words, *task, "task.labels=[cat,dog]"],
        "labels outside the declared classes ['cat', 'dog']: 'bird' (1 times)",
        "'validation'",
        "task.labels",
    )


def test_empty_texts_are_counted(words: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run([*words, *classified(tmp_path / "data", train=CSV + ",cat\n ,dog\n")])
    assert "2 of 6 texts in column 'text' of 'train' are empty" in caplog.text


@pytest.mark.parametrize("setting", ["train_split", "dev_split"])
def test_a_split_that_is_not_there(words: list[str], tmp_path: Path, setting: str) -> None:
    task = [*classified(tmp_path / "data"), f"task.{setting}=validatoin"]
    refused([*words, *task], f"task.{setting}=validatoin", "train, validation", "Did you mean 'validation'?")


def test_answers_that_are_not_in_their_context(
    words: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = asked(tmp_path / "data", [("cat", 4), ("cat", 5), ("mat", 19), ("dogs", 35)])
    record = run([*words, *task])
    for split, fate in (("train", "they are dropped"), ("validation", "they are kept")):
        told = next(
            r.getMessage() for r in caplog.records if f"'{split}': 1 of 4 questions" in r.getMessage()
        )
        assert "an answer that is not in its context" in told and fate in told
    assert "1 training questions dropped: answer not in its context" in record["data_note"]
    assert record["examples"] == {"train": 3, "dev": 4}
    refused(
        [*words, *task, "task.misaligned=fail"],
        "task.misaligned=fail",
        "1 of 4 questions",
        "use task.misaligned=drop",
    )


def test_no_answer_is_in_its_context(words: list[str], tmp_path: Path) -> None:
    refused([*words, *asked(tmp_path / "data", [("bird", 4)])], "task.path", "no question of 'train'")


def test_fewer_examples_than_a_batch(
    words: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run([*words, *classified(tmp_path / "data"), "tune.batch_size=32"])
    assert "4 training examples are fewer than a batch of 32" in caplog.text


@pytest.mark.parametrize("kind", ["classification", "span"])
def test_a_tokenizer_without_a_padding_token(
    words: list[str], tiny_teacher: Path, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "unpadded"
    shutil.copytree(tiny_teacher, folder)
    for file in folder.glob("*token*.json"):
        settings: dict[str, Any] = json.loads(file.read_text())
        if settings.pop("pad_token", None) is not None:
            file.write_text(json.dumps(settings))
    data = tmp_path / "data"
    task = classified(data) if kind == "classification" else asked(data, [("cat", 4)])
    refused([*words, *task, f"source={folder}"], str(folder), "no padding token", '"pad_token"')
    assert not list((tmp_path / "runs").glob("*/*/metrics.jsonl")), "it was found only after training began"


def test_a_language_without_data(words: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = translated(tmp_path / "hub")
    record = run([*words, *task, "task.languages=[de,sw]"])
    assert "google/xquad has no data for sw: not scored" in caplog.text
    assert "no test data: sw (1 of 2)" in record["data_note"]
    refused([*words, *task, "task.languages=[sw]"], "task.languages=['sw']", "data for none")


def test_a_test_set_is_named_by_its_own_setting(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with the translated test set is not blamed on the training set's path."""
    monkeypatch.setattr(hub_access, "answers", lambda *_: False)
    task = [*words, *translated(tmp_path / "hub"), "task.languages=[de]"]
    refused(
        [*task, "task.test_split=test"],
        "task.test_split=test",
        "google/xquad (xquad.de) has no such split",
        "validation",
    )
    elsewhere = refused([*task, "task.test_path=./nowhere"], "task.test_path=./nowhere: no such folder")
    unreachable = refused(
        [*task, "task.test_path=google/xqaud"],
        "task.test_path=google/xqaud",
        "or task.test_path to the folder",
    )
    dev = refused([*task, "task.dev_path=./nowhere.json"], "task.dev_path=./nowhere.json")
    assert "task.path" not in elsewhere + unreachable + dev
