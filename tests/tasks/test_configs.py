"""Every file of conf/task builds its task; those with data here load it."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from minilm_lab.config import build
from minilm_lab.errors import LabError
from minilm_lab.tasks.base import Task

FILES = sorted((Path(__file__).parents[2] / "conf/task").glob("*.yaml"))
OWN_DATA = ("classification", "regression")

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
        "subset: train 8,999 of 392,702, dev 1,000 of 9,815",
    ),
}


def config(name):
    return OmegaConf.load(next(file for file in FILES if file.stem == name))


@pytest.mark.parametrize("name", [file.stem for file in FILES])
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
    node = config("sst2")
    node.lenght = 64
    with pytest.raises(LabError, match=r"task.lenght: no such setting. Did you mean 'length'"):
        build(node, "task")


@pytest.mark.parametrize("name", LOCAL)
def test_real_data(name, shared_hub, tmp_path):
    splits = build(config(name), "task").load(shared_hub, tmp_path)
    assert (len(splits.train), len(splits.dev), splits.labels, splits.data_note) == LOCAL[name]
    assert {text for text, _ in splits.train.texts} - {text for text, _ in splits.dev.texts}
