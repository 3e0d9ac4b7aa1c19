"""A probe during distillation: when it measures, and that training does not notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from training.helpers import lines
from transformers import AutoModel, AutoTokenizer

from minilm_lab.commands.composing import compose_command
from minilm_lab.config import build
from minilm_lab.evaluation.result import Result
from minilm_lab.training.callbacks import Journal
from minilm_lab.training.evaluating import Evaluating
from minilm_lab.training.fit import Training, fit
from minilm_lab.training.optimizer import Optimised
from minilm_lab.training.settings import How, Optim


class Student(Optimised):
    """A module with a student, as the distiller is one; its loss draws random numbers and has dropout."""

    def __init__(self, model: Any, steps: int) -> None:
        super().__init__(Optim(lr=1e-3), steps, False)
        self.student = model

    def terms(self, batch: dict[str, Any]) -> dict[str, Any]:
        states = self.student(input_ids=batch["input_ids"]).last_hidden_state
        return {"loss": (states * torch.randn(48)).mean()}


@pytest.fixture
def probe(tiny_task: Path) -> Any:
    words = ["probe=knn", "task@probe.task=classification", f"probe.task.path={tiny_task}"]
    words += ["probe.k=3", "probe.length=32", "probe.train_examples=20", "probe.dev_examples=10"]
    return build(compose_command("distill", [*words, "probe.task.length=32"]).probe, "probe")


def train(folder: Path, model: Path, probe: Any, steps: int = 10, every: int = 1) -> Any:
    """Journal, callbacks and weights of a training of `steps` steps."""
    folder.mkdir(exist_ok=True)
    cfg = compose_command("distill", ["trainer.log_every=1", "impl.precision=32", "trainer.accelerator=cpu"])
    batches = [{"input_ids": torch.arange(16).reshape(2, 8) + n, "tokens": 16} for n in range(5)]
    journal = Journal(folder / "metrics.jsonl", 1)
    callbacks = []
    if probe is not None:
        splits = probe.load(None, folder / "cache")
        tokenizer = AutoTokenizer.from_pretrained(model)
        measure = {"probe": lambda module: Result(probe.measure(module.student, tokenizer, splits))}
        callbacks = [Evaluating(journal, measure, every)]
    module = Student(AutoModel.from_pretrained(model, add_pooling_layer=False), steps)
    how = How(build(cfg.impl, "impl"), build(cfg.trainer, "trainer"), None, build(cfg.paths, "paths"), "")

    def loader(step: int, rank: int, world: int) -> Any:
        return DataLoader([batches[n % 5] for n in range(step, steps)], batch_size=None)

    fit(Training(module.train(), loader, steps, 3, callbacks), folder, journal, how)
    assert module.student.training
    return lines(folder), callbacks, module.student.state_dict()


def test_training_does_not_notice(tmp_path: Path, tiny_teacher: Path, probe: Any) -> None:
    plain, _, alone = train(tmp_path / "plain", tiny_teacher, None)
    probed, callbacks, beside = train(tmp_path / "probed", tiny_teacher, probe, every=1)
    assert [line for line in probed if "loss" in line] == plain
    assert all(torch.equal(alone[name], beside[name]) for name in alone)
    found = [line for line in probed if "probe" in line]
    assert [line["step"] for line in found] == list(range(11))
    ends = {"first": found[0]["probe"], "last": found[-1]["probe"]}
    assert callbacks[0].first_and_last("probe") == ends
    assert all(set(line["probe"]) == {"classification_knn_accuracy"} for line in found)


def test_when_it_measures(tmp_path: Path, tiny_teacher: Path, probe: Any) -> None:
    journal, callbacks, _ = train(tmp_path, tiny_teacher, probe, every=4)
    assert [line["step"] for line in journal if "probe" in line] == [0, 4, 8, 10]
    other = Evaluating(callbacks[0].journal, {"probe": callbacks[0].evaluations["probe"]}, 4)
    assert other.state_key == callbacks[0].state_key
    other.load_state_dict(callbacks[0].state_dict())
    assert other.first_and_last("probe") == callbacks[0].first_and_last("probe")
