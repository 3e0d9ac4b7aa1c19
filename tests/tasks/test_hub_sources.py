"""Where training, dev and test data come from: files, parts of a split, other data sets, the leaderboard's tests."""

import numpy as np
import pytest

from minilm_lab.errors import LabError
from minilm_lab.tasks.hub import HubTask, TrainFrom
from tasks.helpers import featurized, judged, pairs_of

from .helpers import PAIR, ROWS, in_hub_layout, labelled, write


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_single_files_of_every_kind(suffix, tmp_path, cache):
    folder = tmp_path / "data"
    write(folder, suffix)
    (folder / f"validation.{suffix}").rename(folder / f"mine.{suffix}")
    files = {"path": str(folder / f"train.{suffix}"), "dev_path": str(folder / f"mine.{suffix}")}
    splits = HubTask(**files, **PAIR).load(None, cache)
    assert pairs_of(splits.train) == [row[:2] for row in ROWS["train"]]
    assert (pairs_of(splits.dev), splits.dev["label"][:]) == ([row[:2] for row in ROWS["validation"]], [0, 1])
    # The same data, in whatever files it lies.
    other = tmp_path / "other"
    assert splits.checksum() == HubTask(path=write(other), **PAIR).load(None, cache).checksum()


def test_a_part_of_train_held_out(tmp_path, cache):
    rows = {"train": [(f"text {n}", "ab"[n % 2]) for n in range(100)]}
    path = write(tmp_path / "data", "csv", rows, names=("text", "label"))
    for where in (path, f"{path}/train.csv"):
        splits = HubTask(path=where, dev_fraction=0.3).load(None, cache)
        texts = {part: {text for text, _ in pairs_of(getattr(splits, part))} for part in ("train", "dev")}
        assert texts["train"] | texts["dev"] == {text for text, _ in rows["train"]}
        assert texts["train"].isdisjoint(texts["dev"]) and 15 < len(texts["dev"]) < 45
        assert splits.data_note == "dev: 30% of train held out by hash"
    with pytest.raises(LabError, match=r"is the training split: scores on it would say nothing"):
        HubTask(path=path, dev_split="train").load(None, cache)
    with pytest.raises(LabError, match=r"leaves 100 training and 0 dev examples"):
        HubTask(path=path, dev_fraction=1e-9).load(None, cache)


def test_fewer_training_examples(tmp_path, cache):
    task = HubTask(path=write(tmp_path / "data"), train_examples=3, official={"train": 4}, **PAIR)
    splits = task.load(None, cache)
    assert len(splits.train) == 3 and set(pairs_of(splits.train)) < {row[:2] for row in ROWS["train"]}
    assert splits.data_note == "train: first 3 of 4 by hash"
    with pytest.raises(LabError, match=r"task.train_examples=5 is more than the 4"):
        HubTask(path=task.path, train_examples=5, **PAIR).load(None, cache)


def test_training_on_another_data_set(tmp_path, cache):
    rows = {"train": [("p", "q", "yes"), ("r", "s", "no")]}
    other = write(tmp_path / "other", rows=rows, names=("first", "second", "gold"))
    elsewhere = TrainFrom(path=other, text=["first", "second"])
    splits = HubTask(path=write(tmp_path / "data"), train_from=elsewhere, **PAIR).load(None, cache)
    assert (pairs_of(splits.train), splits.train["label"][:]) == ([("p", "q"), ("r", "s")], [1, 0])
    assert pairs_of(splits.dev) == [row[:2] for row in ROWS["validation"]]
    # One file to score on needs no name of a split.
    file = str(tmp_path / "data" / "validation.jsonl")
    by_file = HubTask(path=file, train_from=elsewhere, **PAIR).load(None, cache)
    assert by_file.checksum() == splits.checksum() and by_file.data_note == splits.data_note
    with pytest.raises(LabError, match=r"task.train_from.text: .* has no column 'third'"):
        wrong = TrainFrom(path=other, text=["first", "third"])
        HubTask(path=file, train_from=wrong, **PAIR).load(None, cache)
    with pytest.raises(LabError, match=r"task.train_from.path=\S+gone: no such folder or file"):
        HubTask(path=file, train_from=TrainFrom(path=str(tmp_path / "gone")), **PAIR).load(None, cache)


def test_classes_numbered_otherwise_in_the_other_data_set(tmp_path, cache):
    features = (
        "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n    dtype:\n"
        "      class_label:\n        names:\n          '0': {}\n          '1': {}\n---\n"
    )
    for name, classes in (("one", ("bad", "good")), ("two", ("good", "bad"))):
        labelled(tmp_path / name, [0, 1, 1])
        (tmp_path / name / "README.md").write_text(features.format(*classes))
    with pytest.raises(LabError, match=r"its classes are \['good', 'bad'\], in this order, and not"):
        task = HubTask(path=str(tmp_path / "two"), train_from=TrainFrom(path=str(tmp_path / "one")))
        task.load(None, cache)


def test_more_splits_are_scored_and_missing_ones_are_said(tmp_path, cache):
    rows = ROWS | {"other": [("x", "y", "yes")]}
    extra = {"other": "other", "gone": "nowhere"}
    path = write(tmp_path / "data", "jsonl", rows)
    # Splits of any name need the hub's layout.
    listed = "".join(f"  - split: {split}\n    path: {split}.jsonl\n" for split in rows)
    (tmp_path / "data" / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{listed}---\n"
    )
    task = HubTask(path=path, extra_splits=extra, official={"dev": 2, "other": 7}, **PAIR)
    splits = task.load(None, cache)
    assert list(splits.extra) == ["other"] and splits.extra["other"]["label"][:] == [1]
    assert splits.data_note == f"subset: other 1 of 7; not scored: gone, {path} has no split 'nowhere'"
    assert task.combine({"dev": {"accuracy": 50.0}, "other": {"accuracy": 60.0}}) == {
        "accuracy": 50.0,
        "accuracy_other": 60.0,
    }


def test_test_sets_are_predicted_in_the_leaderboards_format(tmp_path, cache, tokenizer):
    folder = in_hub_layout(tmp_path / "data", splits={**ROWS, "test": [("u", "v", None), ("w", "x", None)]})
    fields = {"labels": ["no", "yes"], "submission_labels": "names"}
    files = {"Mine.tsv": "test", "Other.tsv": "cd/test"}
    task = HubTask(path=str(folder), config="ab", submissions=files, test=True, **PAIR, **fields)
    splits = task.load(None, cache)
    assert pairs_of(splits.extra["Mine"]) == [("abu", "v"), ("abw", "x")]
    assert pairs_of(splits.extra["Other"]) == [("cdu", "v"), ("cdw", "x")]
    assert "label" not in splits.extra["Mine"].column_names
    features = featurized(task, splits.extra["Mine"], tokenizer, training=False)
    outputs = [np.asarray([0.5, 0.1]), np.asarray([0.1, 0.5])]
    outcome = judged(task, outputs, splits.extra["Mine"], features, "Mine")
    assert outcome.files == {"Mine.tsv": "index\tprediction\n0\tno\n1\tyes\n"}
    assert outcome.scores == {} and "reference" not in outcome.rows[0]
    assert HubTask(path=str(folder), config="ab", submissions=files, **PAIR).load(None, cache).extra == {}
    with pytest.raises(LabError, match=r"task.submissions.A.tsv=tests: .* Did you mean 'test'"):
        HubTask(
            path=str(folder), config="ab", submissions={"A.tsv": "tests"}, test=True, **PAIR, **fields
        ).load(None, cache)


def test_quotation_marks_that_are_text(tmp_path, cache, caplog):
    folder = tmp_path / "data"
    folder.mkdir()
    lines = ["text\tlabel", '"Yes, he said\t1', "No\t0", 'Never"\t1', "Maybe\t0"]
    for split in ("train", "dev"):
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    splits = HubTask(path=str(folder), quotes=False).load(None, cache)
    assert [text for text, _ in pairs_of(splits.train)] == ['"Yes, he said', "No", 'Never"', "Maybe"]
    assert "lines became" not in caplog.text
    HubTask(path=str(folder)).load(None, cache)
    assert "4 lines became 2 rows" in caplog.text and "task.quotes=false" in caplog.text


def test_identity_says_what_is_computed_and_not_where_the_data_lies():
    plain = HubTask(path="x", submissions={"A.tsv": "test"}, official={"train": 3})
    assert set(plain.identity()).isdisjoint({"name", "path", "dev_path", "official", "submissions"})
    other = HubTask(path="y", name="z", dev_path="w", quotes=False, train_from=TrainFrom(path="v"))
    assert other.identity() == plain.identity(), "where the data lies is no part of it"
    assert HubTask(path="x", train_examples=5).identity() != plain.identity()
    test = HubTask(path="x", submissions={"A.tsv": "test"}, test=True).identity()
    assert test["test"] is True and test["submissions"] == {"A.tsv": "test"}
