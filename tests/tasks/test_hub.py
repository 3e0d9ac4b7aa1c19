"""Data of the user's own, data in the hub's layout, and what can be wrong with either."""

import logging
import time

import pytest
from huggingface_hub import HfApi, constants

from minilm_lab.errors import LabError
from minilm_lab.tasks.hub import HubTask
from tasks.helpers import pairs_of, references

from .helpers import PAIR, ROWS, in_hub_layout, labelled, write


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_files_of_every_kind(suffix, tmp_path, cache):
    splits = HubTask(path=write(tmp_path / "data", suffix), **PAIR).load(None, cache)
    assert splits.labels == ["no", "yes"]
    assert pairs_of(splits.train) == [row[:2] for row in ROWS["train"]]
    assert splits.train["label"][:] == references(splits.train) == [1, 0, 0, 1]
    assert (splits.dev["label"][:], splits.dev["id"][:]) == ([0, 1], ["validation-0", "validation-1"])
    assert splits.data_note == ""


def test_a_dev_file_is_the_validation_split_and_changes_are_seen(tmp_path, cache):
    folder = tmp_path / "data"
    task = HubTask(path=write(folder, "tsv"), **PAIR)
    before = task.load(None, cache).checksum()
    (folder / "validation.tsv").rename(folder / "dev.tsv")
    assert task.load(None, cache).checksum() == before
    (folder / "dev.tsv").write_text((folder / "dev.tsv").read_text().replace("m\tn", "m\tN"))
    assert pairs_of(task.load(None, cache).dev)[1] == ("m", "N")
    assert task.load(None, cache).checksum() != before


def test_hub_copy_by_id_and_by_folder(tmp_path, cache):
    folder = in_hub_layout(tmp_path / "hub")
    by_id = HubTask(path="someone/pairs", config="cd", **PAIR)
    by_folder = HubTask(path=str(folder), config="cd", **PAIR)
    hub = str(tmp_path / "hub")
    assert pairs_of(by_id.load(hub, cache).train)[0] == ("cda", "b")
    assert by_id.load(hub, cache).checksum() == by_folder.load(None, cache).checksum()
    with pytest.raises(LabError, match=r"task.config=bc: .* it has: ab, cd"):
        HubTask(path="someone/pairs", config="bc", **PAIR).load(hub, cache)


def test_no_network_and_a_hub_id(tmp_path, cache, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(HfApi, "dataset_info", unreachable)
    before, start = constants.HF_HUB_OFFLINE, time.monotonic()
    with pytest.raises(
        LabError, match=r"task.path=nobody/nothing: .*paths.hub=\S+hub\. Point paths.hub to a folder"
    ):
        HubTask(path="nobody/nothing", **PAIR).load(str(tmp_path / "hub"), cache)
    assert time.monotonic() - start < 10
    assert before == constants.HF_HUB_OFFLINE


@pytest.mark.parametrize(
    "fields, message",
    [
        (
            {"text": ["premise", "hypotesis"]},
            r"task.text: .* no column 'hypotesis' .* it has: premise, hypothesis, gold",
        ),
        (
            {"label": "label"},
            r"task.label: .* no column 'label' in 'train'; it has: premise, hypothesis, gold",
        ),
        (
            {"dev_split": "valid"},
            r"task.dev_split=valid: .* it has: train, validation. Did you mean 'validation'",
        ),
        ({"labels": ["yes", "maybe"]}, r"outside the declared classes .*'no' \(2 times\)"),
        (
            {"kind": "regression", "metrics": ["pearson"], "score": "pearson"},
            "4 of 4 labels are not a finite number",
        ),
    ],
)
def test_data_that_does_not_fit(fields, message, tmp_path, cache):
    with pytest.raises(LabError, match=message):
        HubTask(path=write(tmp_path / "data"), **PAIR | fields).load(None, cache)


def test_paths_that_are_no_data(tmp_path, cache):
    folder = tmp_path / "data"
    with pytest.raises(LabError, match="no such folder"):
        HubTask(path=str(folder)).load(None, cache)
    folder.mkdir()
    with pytest.raises(LabError, match=r"the folder holds no data; looked for files that end in \.csv"):
        HubTask(path=str(folder)).load(None, cache)
    write(folder, "csv")
    with pytest.raises(LabError, match=r"is one file, .* task.dev_path=<file>, .* task.dev_fraction=0.1"):
        HubTask(path=str(folder / "train.csv"), **PAIR).load(None, cache)
    (folder / "train.docx").write_bytes(b"PK")
    with pytest.raises(LabError, match=r"files of this kind cannot be read; they end in .csv, .tsv"):
        HubTask(path=str(folder / "train.docx"), **PAIR).load(None, cache)
    (folder / "train.docx").unlink()
    (folder / "test.csv").write_text("index,premise,hypothesis\n0,a,b\n")
    assert len(HubTask(path=str(folder), **PAIR).load(None, cache).train) == 4, (
        "nobody asked for the test set"
    )
    (folder / "train.csv").write_bytes(b"\x00\xff\xfe" * 50)
    with pytest.raises(LabError, match=r"task.path=.*is binary"):
        HubTask(path=str(folder), **PAIR).load(None, cache)


@pytest.mark.parametrize(
    "cells, declared, names, numbers",
    [
        ([0, 1, 1], None, ["0", "1"], [0, 1, 1]),
        ([5, 1, 3], None, ["1", "3", "5"], [2, 0, 1]),
        ([10, 9, 9], None, ["9", "10"], [1, 0, 0]),
        ([1, 2, 3], ["1", "2", "3"], ["1", "2", "3"], [0, 1, 2]),  # names win over numbers
        ([1, 0, 2], ["a", "b", "c"], ["a", "b", "c"], [1, 0, 2]),
        (["b", "a", "b"], ["b", "a"], ["b", "a"], [0, 1, 0]),
        ([True, False], None, ["0", "1"], [1, 0]),
        ([1.0, 0.0], None, ["0", "1"], [1, 0]),
        (["10", "9"], None, ["9", "10"], [1, 0]),
        (["01", "1"], None, ["01", "1"], [0, 1]),
        (["Favor", "None", "<NA>"], None, ["<NA>", "Favor", "None"], [1, 2, 0]),
    ],
)
def test_labels(cells, declared, names, numbers, tmp_path, cache):
    splits = HubTask(path=labelled(tmp_path / "data", cells), labels=declared).load(None, cache)
    assert (splits.labels, splits.train["label"][:]) == (names, numbers)


def test_unlabelled_examples_are_dropped_and_counted(tmp_path, cache, caplog):
    path = labelled(tmp_path / "data", [0, -1, 1, None, 1], [1, 0])
    splits = HubTask(path=path, official={"train": 5}, unlabelled=["-1"]).load(None, cache)
    assert splits.labels == ["0", "1"]
    assert splits.train["label"][:] == [0, 1, 1]
    assert [text for text, _ in pairs_of(splits.train)] == ["t0", "t2", "t4"]
    assert splits.train["id"][:] == ["train-0", "train-2", "train-4"]
    assert splits.data_note == "subset: train 3 of 5; 2 examples without a label dropped"
    assert "2 of 5 examples have no label" in caplog.text


@pytest.mark.parametrize("cells", [[-1, 0, 1, 1], [-1, 1, -1, 1], ["-1", "0", "1", "1"]])
def test_minus_one_is_a_class_where_there_are_others(cells, tmp_path, cache):
    path = labelled(tmp_path / "data", cells)
    splits = HubTask(path=path).load(None, cache)
    assert splits.labels == sorted({str(cell) for cell in cells}, key=int)
    assert [splits.labels[number] for number in splits.train["label"][:]] == [str(cell) for cell in cells]
    named = [str(cell) for cell in dict.fromkeys(cells)]
    assert HubTask(path=path, labels=named).load(None, cache).labels == named
    with pytest.raises(LabError, match=r"-1 \(. times\). All that is there: .*task.unlabelled"):
        HubTask(path=path, labels=["neg", "neutral", "pos"]).load(None, cache)


def test_snlis_mark_is_no_class(tmp_path, cache):
    path = labelled(tmp_path / "data", ["neutral", "-", "entailment"])
    for declared in (None, ["entailment", "neutral"]):
        splits = HubTask(path=path, labels=declared).load(None, cache)
        assert (splits.labels, splits.train["label"][:]) == (["entailment", "neutral"], [1, 0])
        assert splits.data_note == "2 examples without a label dropped"
    assert len(HubTask(path=path, labels=["entailment", "neutral", "-"]).load(None, cache).train) == 3
    assert HubTask(path=path, unlabelled=[]).load(None, cache).labels == ["-", "entailment", "neutral"]


@pytest.mark.parametrize(
    "train, dev, message",
    [
        ([0, 1], [-1, -1], "no example has a label"),
        ([0, 1], [0, 2], r"outside the declared classes \['0', '1'\]: 2 \(1 times\)"),
        ([0.5, 1.5], [0.5, 1.5], "use task=regression"),
        (["a", "a"], ["a", "a"], "has 1 distinct labels"),
    ],
)
def test_labels_that_are_no_classes(train, dev, message, tmp_path, cache):
    with pytest.raises(LabError, match=message):
        HubTask(path=labelled(tmp_path / "data", train, dev)).load(None, cache)


def test_class_names_in_the_features_must_agree(tmp_path, cache):
    folder = tmp_path / "data"
    labelled(folder, [0, 1, 1])
    feature = "- name: label\n    dtype:\n      class_label:\n        names:\n          '0': bad\n          '1': good\n"
    (folder / "README.md").write_text(
        f"---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  {feature}---\n"
    )
    assert HubTask(path=str(folder)).load(None, cache).labels == ["bad", "good"]
    with pytest.raises(LabError, match=r"not what the data says, in this order: \['bad', 'good'\]"):
        HubTask(path=str(folder), labels=["good", "bad"]).load(None, cache)


def test_regression(tmp_path, cache):
    fields = {"kind": "regression", "metrics": ["pearson"], "score": "pearson"}
    path = labelled(tmp_path / "data", [0, 2.5, 5])
    splits = HubTask(path=path, bounds=[0.0, 5.0], **fields).load(None, cache)
    assert (splits.labels, splits.train["label"][:]) == (None, [0.0, 2.5, 5.0])
    assert all(isinstance(label, float) for label in splits.train["label"][:])
    with pytest.raises(LabError, match=r"1 of 3 labels are not a number from 0 to 4, the first: 5.0"):
        HubTask(path=path, bounds=[0.0, 4.0], **fields).load(None, cache)
    with pytest.raises(LabError, match="1 of 2 labels are not a finite number, the first: None"):
        HubTask(path=labelled(tmp_path / "gap", [1.0, None]), **fields).load(None, cache)


def test_empty_texts_are_kept_and_counted(tmp_path, cache, caplog):
    rows = {split: [("", 0), (None, 1), (" ", 1), ("x", 0)] for split in ("train", "validation")}
    path = write(tmp_path / "data", rows=rows, names=("text", "label"))
    with caplog.at_level(logging.WARNING):
        splits = HubTask(path=path).load(None, cache)
    assert [text for text, _ in pairs_of(splits.train)] == ["", "", " ", "x"]
    assert "3 of 4 texts in column 'text' of 'train' are empty" in caplog.text
    with pytest.raises(LabError, match="is no text: it holds 0"):
        HubTask(path=path, text=["label"]).load(None, cache)


def test_the_note_says_how_the_data_differs(tmp_path, cache):
    path = write(tmp_path / "data")

    def note(**official):
        return HubTask(path=path, official=official, **PAIR).load(None, cache).data_note

    assert note(train=4, dev=2) == note(train=4) == note() == ""
    assert note(train=392702, dev=2) == "subset: train 4 of 392,702"
    assert note(train=8, dev=9815) == "subset: train 4 of 8, dev 2 of 9,815"
    assert note(train=3, dev=9) == "not the official data: train 4 of 3, dev 2 of 9"


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"text": []}, "task.text"),
        ({"text": ["a", "b", "c"]}, "task.text"),
        ({"labels": ["one"]}, "two or more"),
        ({"labels": ["a", "a", "b"]}, "names a class twice"),
        (
            {"labels": ["a", "b"], "kind": "regression", "metrics": ["pearson"], "score": "pearson"},
            "task.labels",
        ),
        ({"bounds": [0.0, 1.0]}, "task.bounds"),
        ({"labels": ["a", "b", "c"], "metrics": ["accuracy", "f1"]}, "'f1' is for two classes"),
        ({"official": {"test": 3}}, "task.official: 'test'"),
        ({"extra_splits": {"dev": "validation"}}, "task.extra_splits: the name 'dev' is taken"),
        ({"train_examples": 0}, "task.train_examples=0"),
        ({"dev_fraction": 1.0}, "task.dev_fraction=1.0"),
        ({"dev_fraction": 0.1, "dev_path": "dev.csv"}, "give one of them"),
        ({"test": True}, "task.test=true needs task.submissions"),
        ({"submission_labels": "name"}, "Did you mean 'names'"),
        ({"submission_labels": "names"}, "needs task.labels"),
        ({"metrics": ["acuracy"]}, "Did you mean 'accuracy'"),
    ],
)
def test_impossible_fields(fields, message):
    with pytest.raises(LabError, match=message):
        HubTask(path="x", **fields)


def test_f1_needs_two_classes_in_the_data_too(tmp_path, cache):
    with pytest.raises(LabError, match=r"the data has 3. Use 'f1_macro'"):
        HubTask(path=labelled(tmp_path / "data", [0, 1, 2]), metrics=["accuracy", "f1"]).load(None, cache)
