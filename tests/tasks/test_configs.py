"""Every file of conf/task builds its task; those with data here load it."""

import pytest
from datasets import ClassLabel, Dataset, DatasetDict

from minilm_lab.commands.composing import compose_command, conf_folder
from minilm_lab.config import build
from minilm_lab.errors import LabError
from minilm_lab.tasks.base import Task
from minilm_lab.tasks.hub import HubTask
from minilm_lab.tasks.submission import tsv
from tasks.helpers import pairs_of

NAMES = sorted(file.stem for file in (conf_folder() / "task").glob("[!_]*.yaml"))
#: Tasks whose data the user names.
OWN_DATA = (
    "classification",
    "regression",
    "token_classification",
    "span_qa",
    "ax",
    "generation",
    "question_generation",
    "instructions",
)
GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")

#: Examples in train and dev, official unless the note says otherwise, and classes.
LOCAL = {
    "sst2": (67349, 872, ["negative", "positive"], ""),
    "cola": (8551, 1043, ["unacceptable", "acceptable"], ""),
    "mrpc": (3667, 408, ["not_equivalent", "equivalent"], "subset: train 3,667 of 3,668"),
    "stsb": (5749, 1500, None, ""),
    "qnli": (8999, 5463, ["entailment", "not_entailment"], "subset: train 8,999 of 104,743"),
    "mnli": (
        8999,
        1000,
        ["entailment", "neutral", "contradiction"],
        "subset: train 8,999 of 392,702, dev 1,000 of 9,815; not scored: mismatched, nyu-mll/glue (mnli) has no "
        "split 'validation_mismatched'",
    ),
}


def config(name, *overrides):
    return compose_command("finetune", [f"task={name}", *overrides]).task


@pytest.mark.parametrize("name", NAMES)
def test_builds(name):
    node = config(name)
    if name in OWN_DATA:
        with pytest.raises(LabError, match=r"task.path must be given"):
            build(node, "task")
        node.path = "somewhere"
    task = build(node, "task")
    assert isinstance(task, Task)
    assert task.name == name
    assert task.score in task.metrics


def test_a_misspelt_setting():
    with pytest.raises(LabError, match=r"task.lenght: no such setting. Did you mean 'length'"):
        config("sst2", "task.lenght=64")


#: What the leaderboard expects (its FAQ and sample submission): file -> the answers of the last class.
ANSWERS = {
    "CoLA": "1",
    "SST-2": "1",
    "MRPC": "1",
    "STS-B": "5.000",
    "QQP": "1",
    "MNLI-m": "contradiction",
    "MNLI-mm": "contradiction",
    "AX": "contradiction",
    "QNLI": "not_entailment",
    "RTE": "not_entailment",
    "WNLI": "1",
}


def test_the_leaderboards_files_are_all_there():
    found = {}
    for name in GLUE:
        task = build(config(name), "task")
        for file in task.submissions:
            names = task.labels if task.submission_labels == "names" else None
            last = 9.0 if task.labels is None else len(task.labels) - 1
            found[file.removesuffix(".tsv")] = tsv([last], names, task.bounds).split()[-1]
    assert found == ANSWERS


#: The names of the classes in the hub's copies, in the order of their numbers.
HUB_CLASSES = {
    "cola": ["unacceptable", "acceptable"],
    "sst2": ["negative", "positive"],
    "mrpc": ["not_equivalent", "equivalent"],
    "qqp": ["not_duplicate", "duplicate"],
    "mnli": ["entailment", "neutral", "contradiction"],
    "qnli": ["entailment", "not_entailment"],
    "rte": ["entailment", "not_entailment"],
    "wnli": ["not_entailment", "entailment"],
}
SPLITS = {
    "mnli": [
        "train",
        "validation_matched",
        "validation_mismatched",
        "test_matched",
        "test_mismatched",
    ]
}


@pytest.mark.parametrize("name", GLUE)
def test_glue_as_the_hub_has_it(name, tmp_path, monkeypatch):
    """A stand-in with the hub's splits and classes: test sets carry the label -1."""
    classes = HUB_CLASSES.get(name)

    def copy(path, config, hub, cache, **_):
        assert path == "nyu-mll/glue"
        columns = build(node, "task").text
        data = {}
        for split in SPLITS.get(name, ["train", "validation", "test"]) if config == name else ["test"]:
            labels = [-1] * 3 if split.startswith("test") else [0, 1, 1]
            rows = {column: [f"{column} {n}" for n in range(3)] for column in columns} | {"label": labels}
            own = Dataset.from_dict(rows)
            data[split] = own.cast_column("label", ClassLabel(names=classes)) if classes else own
        return DatasetDict(data)

    monkeypatch.setattr("minilm_lab.tasks.reading.open_data", copy)
    node = config(name, "task.test=true", "task.official={}")
    task = build(node, "task")
    assert isinstance(task, HubTask)
    splits = task.load(None, tmp_path)
    assert splits.labels == classes
    tests = {split: part for split, part in splits.extra.items() if "label" not in part.column_names}
    assert set(tests) == {file.removesuffix(".tsv") for file in task.submissions}
    assert all(len(part) == 3 for part in tests.values())
    assert ("mismatched" in splits.extra) == (name == "mnli")


def test_the_diagnostic_set_with_a_training_set_of_its_own(shared_hub, tmp_path):
    file = tmp_path / "diagnostic-full.tsv"
    file.write_text('Domain\tPremise\tHypothesis\tLabel\nNews\t"A b\tC\tneutral\n\tD"\tE\tcontradiction\n')
    task = build(config("ax", f"task.path={file}"), "task")
    splits = task.load(shared_hub, tmp_path)
    assert pairs_of(splits.dev) == [('"A b', "C"), ('D"', "E")] and splits.dev["label"][:] == [1, 2]
    assert len(splits.train) == 8999
    assert splits.data_note == "subset: train 8,999 of 392,702, dev 2 of 1,104"


@pytest.mark.parametrize("name", LOCAL)
def test_real_data(name, shared_hub, tmp_path):
    splits = build(config(name), "task").load(shared_hub, tmp_path)
    assert (len(splits.train), len(splits.dev), splits.labels, splits.data_note) == LOCAL[name]
    assert {text for text, _ in pairs_of(splits.train)} - {text for text, _ in pairs_of(splits.dev)}
