"""From columns to examples to token ids; what does not fit is counted or refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from data.helpers import byte_bpe, wordpiece

from minilm_lab.errors import LabError
from minilm_lab.tasks.generation.features import TextFeatures, featurize
from minilm_lab.tasks.generation.task import GenerationTask
from tasks.helpers import judged, make_split, pairs_of, references


def write(folder: Path, **splits: list[dict[str, Any]]) -> str:
    folder.mkdir(exist_ok=True)
    for split, rows in splits.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return str(folder)


def rows(*pairs: tuple[str | None, str | None]) -> list[dict[str, Any]]:
    return [{"source": source, "target": target} for source, target in pairs]


def task(path: str, **settings: Any) -> GenerationTask:
    return GenerationTask(name="g", path=path, **settings)


def test_empty_texts_are_dropped_and_counted_or_fail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write(
        tmp_path / "d",
        train=rows(("a", "b"), ("", "c"), ("d", None), ("e", "  "), ("f", "g")),
        validation=rows(("h", "i"), (None, "j")),
    )
    with caplog.at_level(logging.WARNING):
        splits = task(data).load(None, tmp_path)
    assert splits.train["label"][:] == ["b", "g"] and splits.train["id"][:] == ["train-0", "train-4"]
    assert references(splits.dev) == [["i"]]
    assert "3 of 5 examples in 'train'" in caplog.text and "1 of 2 examples in 'validation'" in caplog.text
    assert splits.data_note == (
        "3 of 'train' with an empty text dropped; 1 of 'validation' with an empty text dropped"
    )
    with pytest.raises(LabError, match=r"3 of 5 examples in 'train'.*task.empty=drop"):
        task(data, empty="fail").load(None, tmp_path)


def test_a_pair_of_sources_is_read_as_one(tmp_path: Path) -> None:
    data = [{"passage": "a b", "answer": answer, "q": "c"} for answer in ("a", "")]
    path = write(tmp_path / "d", train=data, validation=data)
    splits = task(path, text=["passage", "answer"], label="q").load(None, tmp_path)
    assert pairs_of(splits.train) == [("a b", "a"), ("a b", "")]
    tokenizer = wordpiece()
    made = featurize(splits.train, tokenizer, source_length=20, target_length=8, training=False)
    assert made.input_ids[0].tolist() == tokenizer("a b", "a")["input_ids"]


def test_questions_of_one_sentence_are_its_references(tmp_path: Path) -> None:
    train = rows(("x", "y"))
    dev = rows(("s", "one"), ("t", "two"), ("s", "three"))
    data = write(tmp_path / "d", train=train, validation=dev)
    splits = task(data, shared_references=True).load(None, tmp_path)
    assert [text for text, _ in pairs_of(splits.dev)] == ["s", "t"]
    assert references(splits.dev) == [["one", "three"], ["two"]]
    assert splits.data_note == "dev: 3 targets of 2 sources"
    apart = task(data).load(None, tmp_path)
    assert references(apart.dev) == [["one"], ["two"], ["three"]]
    few = task(data, dev_examples=1).load(None, tmp_path)
    assert len(few.dev) == 1 and few.data_note == "dev: first 1 of 3 by hash"


def test_further_splits_are_scored_under_their_names(tmp_path: Path) -> None:
    data = write(tmp_path / "d", train=rows(("a", "b")), validation=rows(("c", "d")), test=rows(("e", "f")))
    own = task(data, extra_splits={"test": "test"}, official={"train": 9})
    splits = own.load(None, tmp_path)
    assert references(splits.extra["test"]) == [["f"]]
    assert splits.data_note.startswith("subset: train 1 of 9")
    combined = own.combine({"dev": {"rougeL": 1.0}, "test": {"rougeL": 2.0}})
    assert own.definitions(combined)["rougeL_test"].endswith("; of the split test")


def test_targets_stand_behind_sources_in_training_alone(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = wordpiece()
    examples = make_split([("the cat sat", None), ("a mat", None)], ["two dogs running", "rain"], ["0", "1"])
    with caplog.at_level(logging.WARNING):
        made = featurize(examples, tokenizer, source_length=4, target_length=3, training=True)
    source = tokenizer("the cat sat", truncation=True, max_length=4)["input_ids"]
    target = tokenizer("two dogs running", add_special_tokens=False)["input_ids"][:2]
    end = tokenizer.sep_token_id
    assert made.input_ids[0].tolist() == [*source, *target, end]
    assert made.labels[0].tolist() == [-100] * 4 + [*target, end]
    assert made.lengths.tolist() == [7, 6] and made.input_ids[1][-1] == end
    assert (made.sources_cut, made.targets_cut) == (1, 1), "a source that just fits is not cut"
    assert "1 of 2 training targets are longer than task.target_length=3" in caplog.text
    asked = featurize(examples, tokenizer, source_length=4, target_length=3, training=False)
    assert asked.input_ids[0].tolist() == source and (asked.labels[0] == -100).all()


def test_features_are_kept_and_found_again(tmp_path: Path) -> None:
    data = write(tmp_path / "d", train=rows(("the cat", "a mat")), validation=rows(("rain", "fell")))
    own = task(data, length=40, target_length=8)
    splits = own.load(None, tmp_path)
    first, again = (own.samples(splits, "train", wordpiece(), tmp_path / "cache") for _ in range(2))
    assert isinstance(first, TextFeatures) and isinstance(again, TextFeatures)
    assert list((tmp_path / "cache" / "features").glob("*/index.json"))
    assert again.input_ids[0].tolist() == first.input_ids[0].tolist() and again.rules == first.rules


def test_token_ids_become_the_text_that_the_library_makes_of_them() -> None:
    bpe = byte_bpe()
    bpe.add_special_tokens({"mask_token": "<mask>"})
    for tokenizer in (wordpiece(), bpe):
        text = "two dogs running over green fields"
        examples = make_split([("the cat", None)], [text], ["0"], [[text]])
        made = featurize(examples, tokenizer, source_length=9, target_length=30, training=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        own, outputs = task("x", metrics=["rouge1"], score="rouge1"), [_array([*ids, tokenizer.pad_token_id])]
        outcome = judged(own, outputs, examples, made)
        assert outcome.rows[0]["prediction"] == tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert outcome.scores["rouge1"] == pytest.approx(100.0)
        assert outcome.files["hypotheses.txt"] == outcome.rows[0]["prediction"] + "\n"


def _array(ids: list[int]) -> Any:
    import numpy as np

    return np.asarray(ids)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_length": 1}, "task.target_length=1"),
        ({"length": 50, "target_length": 48}, "task.length=50.*leaves no room for a source; give 56"),
        ({"label_smoothing": 1.0}, "task.label_smoothing=1.0"),
        ({"beams": 0}, "task.beams=0.*greedy"),
        ({"length_penalty": -1.0}, "task.length_penalty=-1.0"),
        ({"no_repeat_ngram": -1}, "task.no_repeat_ngram=-1"),
        ({"empty": "dorp"}, "task.empty=dorp.*Did you mean 'drop'"),
        ({"dev_examples": 0}, "task.dev_examples=0"),
        ({"test": True}, "task.test=true"),
        ({"metrics": ["rougel"], "score": "rougel"}, "'rougel'.*Did you mean 'rougeL'"),
        ({"kind": "regression"}, "task.kind=regression is unknown"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        task("x", **{"submissions": {"a": "b"}, **settings})


def test_columns_that_are_not_there_or_no_text_are_named(tmp_path: Path) -> None:
    data = write(tmp_path / "d", train=rows(("a", "b")), validation=rows(("c", "d")))
    with pytest.raises(LabError, match=r"no column 'targt'.*Did you mean 'target'"):
        task(data, label="targt").load(None, tmp_path)
    numbers = write(
        tmp_path / "n", train=[{"source": "a", "target": 1}], validation=[{"source": "a", "target": 2}]
    )
    with pytest.raises(LabError, match=r"task.label: column 'target' of 'train' is no text: it holds 1"):
        task(numbers).load(None, tmp_path)
