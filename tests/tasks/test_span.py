"""Question answering as a task: what is read, what is refused, and what is made of a model's outputs."""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from minilm_lab import hub_access
from minilm_lab.config import build
from minilm_lab.errors import LabError
from minilm_lab.tasks.span import SpanTask
from tasks.helpers import featurized, judged, pairs_of

from . import span_reference

CONF = Path(__file__).parents[2] / "conf/task"


def row(number, context="The cat sat on the mat.", answers=(("cat", 4),), question="Who sat?"):
    """A row of the hub's layout."""
    answer = {"text": [text for text, _ in answers], "answer_start": [start for _, start in answers]}
    return {"id": f"id-{number}", "question": question, "context": context, "answers": answer}


def write_jsonl(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(file)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def both(tmp_path, rows, **fields):
    """A task that trains on a file with these rows and scores on another one."""
    paths = [write_jsonl(tmp_path / "data" / name, rows) for name in ("rows.jsonl", "dev.jsonl")]
    return SpanTask(path=paths[0], dev_path=paths[1], **fields)


def test_squad_json_and_every_layout_of_the_hub_give_the_same(tmp_path, cache):
    folder = span_reference.write_squad(tmp_path / "json", sizes=(7, 5), unanswerable=0.0)
    expected = SpanTask(path=str(folder)).load(None, cache)
    data = json.loads((folder / "train-v2.0.json").read_text())
    first = data["data"][0]["paragraphs"][0]
    assert pairs_of(expected.train)[0] == (first["qas"][0]["question"], first["context"])
    assert expected.train["gold"][:][0] == [a["text"] for a in first["qas"][0]["answers"]]
    for (_, context), (start, end), gold in zip(
        pairs_of(expected.train), expected.train["label"][:], expected.train["gold"][:], strict=True
    ):
        assert context[start:end] == gold[0]
    assert (len(expected.train), len(expected.dev), expected.data_note) == (7, 5, "")

    (folder / "train-v2.0.json").rename(folder / "train.json")
    (folder / "dev-v2.0.json").rename(folder / "dev.json")
    assert SpanTask(path=str(folder)).load(None, cache).checksum() == expected.checksum()
    files = SpanTask(path=str(folder / "train.json"), dev_path=str(folder / "dev.json"))
    assert files.load(None, cache).checksum() == expected.checksum()
    assert files.identity() == SpanTask(path="elsewhere").identity()

    hub = tmp_path / "hub" / "someone" / "words"
    for name, split in (("train", "train"), ("dev", "validation")):
        rows = [
            row(
                paragraph["qas"][0]["id"],
                paragraph["context"],
                [(a["text"], a["answer_start"]) for a in paragraph["qas"][0]["answers"]],
                paragraph["qas"][0]["question"],
            )
            for paragraph in json.loads((folder / f"{name}.json").read_text())["data"][0]["paragraphs"]
        ]
        hub.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_parquet(hub / f"{split}.parquet")
        write_jsonl(tmp_path / "lines" / f"{split}.jsonl", rows)
    by_id = SpanTask(path="someone/words").load(str(tmp_path / "hub"), cache)
    lines = SpanTask(path=str(tmp_path / "lines")).load(None, cache)
    assert by_id.checksum() == lines.checksum() == expected.checksum()


PANDAS = "{'text': array(['cat'], dtype=object), 'answer_start': array([4], dtype=int32)}"


@pytest.mark.parametrize(
    "answers",
    [
        {"text": ["cat"], "answer_start": [4]},
        {"text": "cat", "answer_start": 4},
        {"text": ["cat"]},
        {"text": ["cat"], "answer_start": [-1]},
        [{"text": "cat", "answer_start": 4}],
        [{"text": "cat"}],
        ["cat"],
        "cat",
        '{"text": ["cat"], "answer_start": [4]}',
        '["cat"]',
        PANDAS,
    ],
)
def test_answers_in_every_layout(answers, tmp_path, cache):
    splits = both(tmp_path, [row(0) | {"answers": answers}]).load(None, cache)
    assert (splits.train["label"][:], splits.train["gold"][:]) == ([[4, 7]], [["cat"]])
    context = {"context": "the cat sat by a cat"}
    if "4" in str(answers):
        both(tmp_path, [row(0) | {"answers": answers} | context]).load(None, cache)
    else:
        with pytest.raises(LabError, match=r"stand in their context more than once, .*Give answer_start"):
            both(tmp_path, [row(0) | {"answers": answers} | context]).load(None, cache)


def test_answers_as_two_columns_of_a_csv_file(tmp_path, cache):
    frame = pd.DataFrame({"question": ["who?"], "context": ["a cat, the cat"], "answers": ["cat"]})
    for split in ("train", "dev"):
        frame.assign(answer_start=11).to_csv(tmp_path / f"{split}.csv", index=False)
    assert SpanTask(path=str(tmp_path)).load(None, cache).train["label"][:] == [[11, 14]]


UNANSWERABLE = {
    "empty list": {"answers": []},
    "empty lists": {"answers": {"text": [], "answer_start": []}},
    "null": {"answers": None},
    "empty text": {"answers": [{"text": "", "answer_start": -1}]},
    "empty text at 0": {"answers": [{"text": "", "answer_start": 0}], "is_impossible": True},
    "plausible": {"answers": [{"text": "cat", "answer_start": 4}], "is_impossible": True},
}


@pytest.mark.parametrize("change", UNANSWERABLE.values(), ids=UNANSWERABLE)
def test_unanswerable_questions_in_every_layout(change, tmp_path, cache):
    rows = [{**row(0), "is_impossible": False}, {**row(1), "is_impossible": None, **change}]
    if isinstance(change["answers"], list):
        rows[0]["answers"] = [{"text": "cat", "answer_start": 4}]
    lines = both(tmp_path, rows, unanswerable=True).load(None, cache)
    asked = [{k: v for k, v in r.items() if k not in ("context",) and v is not None} for r in rows]
    if change["answers"] is None:
        asked[1]["answers"] = None
    whole = {"version": "v2.0", "data": [{"paragraphs": [{"context": row(0)["context"], "qas": asked}]}]}
    for name in ("train", "dev"):
        (tmp_path / f"{name}-v2.0.json").write_text(json.dumps(whole, indent=1))
    squad = SpanTask(path=str(tmp_path), unanswerable=True)
    for splits in (lines, squad.load(None, cache)):
        assert splits.train["label"][:] == splits.dev["label"][:] == [[4, 7], [-1, -1]]
        assert splits.dev["gold"][:] == [["cat"], []]
    with pytest.raises(LabError, match=r"unanswerable=false, but 1 of 2 questions of 'train' have no answer"):
        both(tmp_path, rows).load(None, cache)


def test_answers_that_are_not_in_their_context(tmp_path, cache, caplog):
    rows = [row(0), row(1, answers=[("dog", 4)]), row(2, answers=[("cat", 4), ("mat", 3)]), row(3)]
    with caplog.at_level(logging.WARNING):
        splits = both(tmp_path, rows).load(None, cache)
    assert splits.train["id"][:] == ["id-0", "id-3"]
    assert splits.dev["id"][:] == ["id-0", "id-1", "id-2", "id-3"]
    assert splits.data_note == (
        "2 training questions dropped: answer not in its context; "
        "2 dev questions with an answer not in its context (kept)"
    )
    assert "2 of 4 questions have an answer that is not in its context" in caplog.text
    with pytest.raises(
        LabError, match=r"misaligned=fail: 'train': 2 of 4 .* id-1 has 'dog', its context 'cat'"
    ):
        both(tmp_path, rows, misaligned="fail").load(None, cache)
    with pytest.raises(LabError, match="no question of 'train' has an answer that is in its context"):
        both(tmp_path, rows[1:3]).load(None, cache)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"id": "id-0"}, "1 ids of 'validation' are there more than once, such as 'id-0'"),
        ({"answers": {"text": ["cat", "x"], "answer_start": [4]}}, "need a text each, and where it starts"),
        ({"question": 5}, "is no text"),
    ],
)
def test_rows_that_do_not_fit(change, message, tmp_path, cache):
    rows = [row(0) | (change if "id" not in change else {}), row(1) | change]
    with pytest.raises(LabError, match=message):
        both(tmp_path, rows).load(None, cache)


def test_data_that_does_not_fit(tmp_path, cache):
    def refused(match, **fields):
        with pytest.raises(LabError, match=match):
            SpanTask(**fields).load(None, cache)

    file = write_jsonl(tmp_path / "a" / "train.jsonl", [row(0)])
    refused(r"is one file, and the task needs a dev split too: give task.dev_path", path=file)
    refused(r"task.dev_split=validation: .* it has: train", path=str(tmp_path / "a"))
    bare = write_jsonl(tmp_path / "b.jsonl", [{"question": "q", "context": "c"}])
    refused(r"task.label: .* no column 'answers' .* it has: question, context", path=bare, dev_path=bare)
    broken = tmp_path / "c.json"
    broken.write_text(json.dumps({"data": [{"paragraphs": [{"qas": [{"id": 1}]}]}]}))
    refused(
        r"c.json, entry 1 is not in SQuAD's format \(KeyError: 'context'\)", path=str(broken), dev_path=file
    )
    empty = tmp_path / "d.json"
    empty.write_text(json.dumps({"data": []}))
    refused("d.json has no examples", path=str(empty), dev_path=file)
    refused("no such folder", path=str(tmp_path / "nowhere"))
    few = write_jsonl(tmp_path / "e.jsonl", [row(n) for n in range(3)])
    refused("task.train_examples=9 is more than the 3", path=few, dev_path=file, train_examples=9)
    refused("is the training split: scores on it would say nothing", path=few, dev_path=few)
    refused("is the training split", path=str(tmp_path / "a"), dev_split="train")
    refused("leaves 3 training and 0 dev|leaves 0 training and 3 dev", path=few, dev_fraction=0.5)


def test_a_share_of_the_contexts_is_held_out(tmp_path, cache):
    rows = [row(n, context=f"The cat sat on mat {n % 20}.") for n in range(100)]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    splits = SpanTask(path=path, dev_fraction=0.3).load(None, cache)
    assert sorted(splits.train["id"][:] + splits.dev["id"][:]) == sorted(r["id"] for r in rows)
    assert 0 < len(splits.dev) == 5 * len({context for _, context in pairs_of(splits.dev)}) < 50
    assert {c for _, c in pairs_of(splits.train)}.isdisjoint(c for _, c in pairs_of(splits.dev))
    assert splits.data_note == "dev: the questions of 30% of train's contexts, held out by hash"
    write_jsonl(tmp_path / "rows.jsonl", [r | {"id": "a"} for r in rows])
    with pytest.raises(LabError, match="ids of 'train' are there more than once, such as 'a'"):
        SpanTask(path=path, dev_fraction=0.3).load(None, tmp_path / "other")


def test_a_data_set_that_is_a_program(cache, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("Dataset scripts are no longer supported, but found mlqa.py")

    monkeypatch.setattr("datasets.load_dataset_builder", refuse)
    monkeypatch.setattr(hub_access, "answers", lambda *_: True)
    with pytest.raises(LabError, match=r"task.path=a/b: Dataset scripts .* Download its files and point"):
        SpanTask(path="a/b").load(None, cache)


def test_fewer_training_questions_and_the_note(tmp_path, cache):
    rows = [row(n, question=f"Who sat {n}?") for n in range(10)]
    task = both(tmp_path, rows, train_examples=4, official={"train": 90, "dev": 10})
    splits = task.load(None, cache)
    assert (len(splits.train), len(splits.dev)) == (4, 10)
    assert splits.data_note == "subset: train 10 of 90; train: first 4 of 10 by hash"
    larger = both(tmp_path, rows, train_examples=7).load(None, cache)
    assert set(splits.train["id"][:]) < set(larger.train["id"][:])


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"misaligned": "dorp"}, "task.misaligned=dorp: allowed are drop, fail. Did you mean 'drop'"),
        ({"length": 64}, r"task.length=64 leaves no room .* give 84 or more"),
        ({"stride": 0}, "task.stride=0 must be 1 or more"),
        (
            {"metrics": ["f1", "has_ans_f1"]},
            "'has_ans_f1' does not fit predictions that are a span; there are",
        ),
        ({"metrics": ["f2"]}, "Did you mean 'f1'"),
        ({"score": "exact"}, "task.score=exact is not among"),
        ({"kind": "regression"}, "task.kind=regression is unknown; there are: span"),
        ({"train_examples": 0}, "task.train_examples=0"),
        ({"dev_fraction": 1.0}, "task.dev_fraction=1.0 must be between 0 and 1"),
        ({"dev_fraction": 0.1, "dev_path": "y"}, "task.dev_fraction=0.1 and task.dev_path=y: give one"),
        ({"official": {"test": 3}}, "task.official: 'test'"),
    ],
)
def test_impossible_fields(fields, message):
    with pytest.raises(LabError, match=message):
        SpanTask(path="x", **fields)


def answered(task, tokenizer, cache, seed=0):
    """The dev split, its outcome for random logits, and the file they come from."""
    dev = task.load(None, cache).dev
    features = featurized(task, dev, tokenizer, training=False)
    random = np.random.default_rng(seed)
    outputs = []
    for row, length in enumerate(features.lengths):
        logits = random.normal(size=(length, 2)).astype(np.float32)
        # Right more often than not, so that a threshold has something to part.
        first, last = features.labels[row]
        logits[first, 0] += random.normal(2)
        logits[last, 1] += random.normal(2)
        outputs.append(logits)
    return dev, features, outputs, judged(task, outputs, dev, features, "dev")


ALL = list(SpanTask(path="x", unanswerable=True).known_metrics())


@pytest.fixture
def squad(tmp_path):
    return span_reference.write_squad(tmp_path / "squad", sizes=(5, 60), longest=150)


def test_scores_are_those_of_the_predictions_file(squad, tokenizer, cache):
    task = SpanTask(path=str(squad), unanswerable=True, metrics=ALL, length=96, stride=20)
    dev, _, _, outcome = answered(task, tokenizer, cache)
    data = json.loads((squad / "dev-v2.0.json").read_text())
    predictions = json.loads(outcome.files["predictions.json"])
    assert list(predictions) == dev["id"][:]
    official = span_reference.evaluate(data, predictions)
    names = {"exact": "exact_match", "f1": "f1"}
    for part, prefix in (("", ""), ("HasAns_", "has_ans_"), ("NoAns_", "no_ans_")):
        for theirs, ours in names.items():
            assert outcome.scores[prefix + ours] == pytest.approx(official[part + theirs])
    assert 0 < official["HasAns_f1"] < 100 and 0 < official["NoAns_f1"] < 100

    # No threshold on the odds gives a better F1; 0 gives the untuned scores.
    odds = json.loads(outcome.files["null_odds.json"])
    best = {line["id"]: line["best_span"] for line in outcome.rows}
    assert outcome.facts["null_threshold_chosen"] == "for the best F1 on dev"

    def at(threshold):
        return span_reference.evaluate(data, {i: "" if odds[i] > threshold else best[i] for i in best})

    assert max(at(t)["f1"] for t in (-1e9, *odds.values())) == pytest.approx(outcome.scores["f1"])
    assert at(outcome.facts["null_threshold"])["f1"] == pytest.approx(outcome.scores["f1"])
    assert at(0.0)["f1"] == pytest.approx(outcome.scores["f1_untuned"])
    assert at(0.0)["exact"] == pytest.approx(outcome.scores["exact_match_untuned"])
    assert outcome.scores["f1"] > outcome.scores["f1_untuned"]


def test_n_best_and_rows(squad, tokenizer, cache):
    task = SpanTask(path=str(squad), unanswerable=True, metrics=ALL, length=96, stride=20, n_best=5)
    dev, features, _, outcome = answered(task, tokenizer, cache)
    candidates = json.loads(outcome.files["nbest.json"])
    contexts = dict(zip(dev["id"][:], (context for _, context in pairs_of(dev)), strict=True))
    odds = json.loads(outcome.files["null_odds.json"])
    for line in outcome.rows:
        entries = candidates[line["id"]]
        assert len(entries) == 6 and sum(entry["probability"] for entry in entries) == pytest.approx(1)
        scores = [entry["score"] for entry in entries]
        assert scores == sorted(scores, reverse=True)
        spans = [entry for entry in entries if entry["text"]]
        for entry in spans:
            assert contexts[line["id"]][entry["start"] : entry["end"]] == entry["text"]
        (null,) = [entry["score"] for entry in entries if not entry["text"]]
        assert spans[0]["text"] == line["best_span"]
        assert null - spans[0]["score"] == pytest.approx(odds[line["id"]]) == line["null_odds"]
        assert line["prediction"] == (
            "" if odds[line["id"]] > outcome.facts["null_threshold"] else line["best_span"]
        )
    assert [line["reference"] for line in outcome.rows] == dev["gold"][:]
    assert outcome.facts["windows"] == len(features) > len(dev)


def test_without_unanswerable_questions(tmp_path, tokenizer, cache):
    folder = span_reference.write_squad(tmp_path / "squad", sizes=(5, 40), unanswerable=0.0)
    task = SpanTask(path=str(folder), length=96, stride=20)
    _, _, _, outcome = answered(task, tokenizer, cache)
    data = json.loads((folder / "dev-v2.0.json").read_text())
    official = span_reference.evaluate(data, json.loads(outcome.files["predictions.json"]))
    assert outcome.scores == pytest.approx({"f1": official["f1"], "exact_match": official["exact"]})
    assert set(outcome.files) == {"predictions.json", "nbest.json"}
    assert set(outcome.rows[0]) == {"id", "prediction", "reference"}
    assert "threshold" not in json.dumps(task.definitions(outcome.scores))


def test_a_part_without_questions_is_left_out_and_said(tmp_path, tokenizer, cache, caplog):
    folder = span_reference.write_squad(tmp_path / "squad", sizes=(5, 10), unanswerable=0.0)
    task = SpanTask(path=str(folder), unanswerable=True, metrics=["f1", "no_ans_f1"], length=96)
    _, _, _, outcome = answered(task, tokenizer, cache)
    assert list(outcome.scores) == ["f1"]
    assert "No question fits the metric 'no_ans_f1'" in caplog.text


def test_outputs_that_are_not_finite(squad, tokenizer, cache):
    task = SpanTask(path=str(squad), unanswerable=True, length=96)
    dev, features, outputs, _ = answered(task, tokenizer, cache)
    outputs[3][0, 0] = np.nan
    with pytest.raises(LabError, match=r"1 of \d+ predictions .* not finite"):
        judged(task, outputs, dev, features, "dev")


def test_the_definitions_say_what_was_tuned():
    task = build(OmegaConf.load(CONF / "squad_v2.yaml"), "task")
    said = task.definitions(dict.fromkeys(task.metrics, 0.0))
    assert all(("TUNED ON DEV" in text) != ("untuned" in name) for name, text in said.items())


#: Questions here, and their note. The local copy's train is a subset, and its SQuAD 2.0 rebuilt.
LOCAL = {
    "squad": (4500, 500, "subset: train 4,500 of 87,599, dev 500 of 10,570"),
    "squad_v2": (12294, 6078, "subset: train 12,294 of 130,319, dev 6,078 of 11,873"),
}


@pytest.mark.parametrize("name", LOCAL)
def test_real_data(name, shared_hub, tmp_path):
    splits = build(OmegaConf.load(CONF / f"{name}.yaml"), "task").load(shared_hub, tmp_path)
    assert (len(splits.train), len(splits.dev), splits.data_note) == LOCAL[name]
    for (_, context), (start, end), gold in zip(
        pairs_of(splits.train), splits.train["label"][:], splits.train["gold"][:], strict=True
    ):
        assert (start, end) == (-1, -1) if not gold else context[start:end] == gold[0]
