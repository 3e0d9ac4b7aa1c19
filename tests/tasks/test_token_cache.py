"""Samples from the token cache against those of ``Task.features``, and what happens to broken or foreign files."""

import copy
import dataclasses
import json
import logging
import multiprocessing
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from minilm_lab.data import token_cache
from minilm_lab.data.splits import Splits
from minilm_lab.runs.fingerprints import file_checksum
from minilm_lab.tasks.features import Features
from minilm_lab.tasks.hub import HubTask
from minilm_lab.tasks.span import SpanTask
from minilm_lab.tasks.token_classification import TokenTask
from tasks.helpers import featurized

from . import span_reference


def classification(folder, pairs):
    rows = {"text": ["a b c", "", "d e", "f"], "more": ["b", "c d", "e", "a"], "label": [0, 1, 1, 0]}
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation"):
        pd.DataFrame(rows).to_csv(folder / f"{split}.csv", index=False)
    return HubTask(name="x", path=str(folder), text=["text", "more"] if pairs else ["text"], length=8)


def regression(folder):
    task = classification(folder, True)
    return dataclasses.replace(task, kind="regression", metrics=["pearson"], score="pearson")


def spans(folder):
    path = span_reference.write_squad(folder, sizes=(5, 9), longest=150)
    return SpanTask(name="x", path=str(path), unanswerable=True, length=96, stride=20)


def tokens(folder):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"tokens": ["ab", "c", "dab"], "tags": ["B-PER", "I-PER", "O"]}, {"tokens": ["e"], "tags": ["O"]}]
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return TokenTask(name="x", path=str(folder))


KINDS = {
    "one text": lambda folder: classification(folder, False),
    "pairs": lambda folder: classification(folder, True),
    "regression": regression,
    "spans": spans,
    "tokens": tokens,
}


def cached(cache, task, split, tokenizer, *, training=True):
    return task.samples(Splits(split, split), "train" if training else "dev", tokenizer, cache)


def same(found, expected):
    assert type(found) is type(expected)
    for field in dataclasses.fields(expected):
        ours, theirs = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(theirs, list) and theirs and isinstance(theirs[0], np.ndarray):
            assert [row.dtype for row in ours] == [row.dtype for row in theirs], field.name
            assert [row.tolist() for row in ours] == [row.tolist() for row in theirs], field.name
        elif isinstance(theirs, np.ndarray):
            assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, field.name
            assert ours.tolist() == theirs.tolist(), field.name
        else:
            assert ours == theirs and type(ours) is type(theirs), field.name


@pytest.fixture
def counted(monkeypatch):
    """How often tokenising was done."""
    calls = []
    for kind in (HubTask, SpanTask, TokenTask):
        original = kind.features

        def counting(self, *args, _original=original, **kwargs):
            calls.append(self.name)
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(kind, "features", counting)
    return calls


@pytest.mark.parametrize("kind", KINDS)
def test_the_cache_gives_what_tokenising_gives(kind, tmp_path, tokenizer, counted):
    task = KINDS[kind](tmp_path / "data")
    splits = task.load(None, tmp_path / "cache")
    for split, training in ((splits.train, True), (splits.dev, False)):
        expected = featurized(task, split, tokenizer, training=training)
        del counted[:]
        for _ in range(3):
            found = cached(tmp_path / "cache", task, split, tokenizer, training=training)
            same(found, expected)
        assert len(counted) == 1
        chosen = np.arange(len(expected))
        ours, theirs = found.batch(chosen), expected.batch(chosen)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        ours["input_ids"] += 1  # a batch is a copy: the cache cannot be written through it
        same(found, expected)


def test_large_files_are_mapped_and_equal(tmp_path, tokenizer, monkeypatch):
    task = spans(tmp_path / "data")
    split = task.load(None, tmp_path / "cache").train
    expected = featurized(task, split, tokenizer, training=True)
    monkeypatch.setattr(token_cache, "_MAPPED", 1)
    cache = tmp_path / "cache"
    cached(cache, task, split, tokenizer)
    found = cached(cache, task, split, tokenizer)
    same(found, expected)
    with pytest.raises(ValueError, match="read-only"):
        found.input_ids[0][0] = 7


def test_what_decides_features_decides_the_key(tmp_path, tokenizer, monkeypatch):
    task = classification(tmp_path / "data", True)
    split = task.load(None, tmp_path / "cache").train
    keys = []
    monkeypatch.setattr(token_cache, "cached", lambda cache, key, *_: keys.append(key))

    def key(task=task, split=split, name="train", labels=None, tokenizer=tokenizer):
        task.samples(Splits(split, split, labels), name, tokenizer, tmp_path)
        return keys[-1]

    base = key()
    assert base == key() and len(base) == 32
    # Calls of the tokenizer leave their truncation behind in it.
    featurized(task, split, tokenizer, training=True)
    assert key() == key(task=dataclasses.replace(task, name="y")) == base
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    core["model"]["vocab"]["zz"] = len(core["model"]["vocab"])
    larger = copy.deepcopy(tokenizer)
    larger._tokenizer = type(tokenizer.backend_tokenizer).from_str(json.dumps(core))
    other = [
        key(task=dataclasses.replace(task, length=9)),
        key(split=split.remove_columns("text").add_column("text", [*split["text"][:-1], "g"])),
        key(split=split.remove_columns("label").add_column("label", [*split["label"][:-1], 1])),
        key(name="dev"),
        key(labels=["O", "I"]),
        key(labels=["I", "O"]),
        key(tokenizer=larger),
    ]
    monkeypatch.setattr(tokenizer, "truncation_side", "left")
    assert len({base, *other, key()}) == 9


def folders(cache):
    return [path for path in (cache / "features").iterdir() if path.is_dir()]


def cut(file):
    file.write_bytes(file.read_bytes()[:-3])


def flip(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [cut, flip, os.unlink], ids=["cut short", "a bit flipped", "gone"])
@pytest.mark.parametrize("name", ["input_ids.npy", "input_ids.lengths.npy", "labels.npy", "index.json"])
def test_broken_files_are_made_again(harm, name, tmp_path, tokenizer, counted, caplog):
    task = classification(tmp_path / "data", True)
    split = task.load(None, tmp_path / "cache").train
    expected = featurized(task, split, tokenizer, training=True)
    cache = tmp_path / "cache"
    cached(cache, task, split, tokenizer)
    (folder,) = folders(tmp_path / "cache")
    harm(folder / name)
    del counted[:]
    same(cached(cache, task, split, tokenizer), expected)
    same(cached(cache, task, split, tokenizer), expected)
    assert len(counted) == 1
    assert "it is made again" in caplog.text


def test_an_index_that_names_foreign_code_is_not_followed(tmp_path, tokenizer, counted):
    task = classification(tmp_path / "data", False)
    split = task.load(None, tmp_path / "cache").train
    cache = tmp_path / "cache"
    cached(cache, task, split, tokenizer)
    (folder,) = folders(tmp_path / "cache")
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, "class": "os:system"}))
    assert type(cached(cache, task, split, tokenizer)) is Features
    assert len(counted) == 2


def test_pickles_are_neither_written_nor_read(tmp_path, tokenizer, counted):
    task = classification(tmp_path / "data", False)
    split = task.load(None, tmp_path / "cache").train
    cache = tmp_path / "cache"
    cached(cache, task, split, tokenizer)
    (folder,) = folders(tmp_path / "cache")
    np.save(folder / "labels.npy", np.asarray([print, 1], dtype=object), allow_pickle=True)
    index = json.loads((folder / "index.json").read_text())
    index["checksums"]["labels"] = file_checksum(folder / "labels.npy")
    (folder / "index.json").write_text(json.dumps(index))
    assert cached(cache, task, split, tokenizer).labels.dtype == np.int64
    assert len(counted) == 2


def test_warnings_are_given_again(tmp_path, tokenizer, caplog):
    task = dataclasses.replace(spans(tmp_path / "data"), max_question=2)
    split = task.load(None, tmp_path / "cache").train
    given = []
    for _ in range(2):
        caplog.clear()
        cached(tmp_path / "cache", task, split, tokenizer)
        given.append([r.getMessage() for r in caplog.records if r.levelno == logging.WARNING])
    assert given[0] == given[1]
    assert "longer than task.max_question=2 tokens" in given[0][0]


@dataclasses.dataclass(frozen=True)
class Odd(Features):
    """Features with something that has no file."""

    thing: object = None


class OddTask(HubTask):
    def features(self, splits, name, tokenizer):
        return Odd(**vars(super().features(splits, name, tokenizer)), thing={"any": print})


def test_what_cannot_be_kept_is_made_each_time(tmp_path, tokenizer):
    plain = classification(tmp_path / "data", False)
    split = plain.load(None, tmp_path / "cache").train
    cache = tmp_path / "cache"
    task = OddTask(**{field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)})
    for _ in range(2):
        found = cached(cache, task, split, tokenizer)
        assert len(found) == 4 and type(found) is Odd
    assert folders(tmp_path / "cache") == []


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, tokenizer, monkeypatch, caplog, counted):
    task = classification(tmp_path / "data", False)
    split = task.load(None, tmp_path / "cache").train

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(token_cache, "write_samples", full)
    found = cached(tmp_path / "cache", task, split, tokenizer)
    assert len(found) == 4 and len(counted) == 1
    assert "No space left" in caplog.text
    assert folders(tmp_path / "cache") == []
    (tmp_path / "file").write_text("")
    found = cached(tmp_path / "file", task, split, tokenizer)
    assert len(found) == 4 and len(counted) == 2


def _make(tmp_path, task, split, tokenizer, marks, number, gate):
    original = type(task).features

    def marking(self, *args, **kwargs):
        (marks / str(number)).touch()
        return original(self, *args, **kwargs)

    type(task).features = marking
    gate.wait()
    found = cached(tmp_path / "cache", task, split, tokenizer)
    assert len(found) == len(split)


def test_of_several_processes_one_tokenises(tmp_path, tokenizer):
    task = classification(tmp_path / "data", True)
    split = task.load(None, tmp_path / "cache").train
    shutil.rmtree(tmp_path / "cache")
    marks = tmp_path / "marks"
    marks.mkdir()
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(3)
    processes = [
        context.Process(target=_make, args=(tmp_path, task, split, tokenizer, marks, number, gate))
        for number in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list(marks.iterdir())) == 1
