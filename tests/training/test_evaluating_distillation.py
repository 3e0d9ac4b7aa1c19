"""An evaluator during distillation: when it measures, and that training does not notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer

from minilm_lab.commands.composing import compose_command
from minilm_lab.config import build
from minilm_lab.training.callbacks import Journal
from minilm_lab.training.evaluating import Evaluating
from minilm_lab.training.fit import Training, fit
from minilm_lab.training.optimizer import Optimised
from minilm_lab.training.settings import How, Optim
from training.helpers import lines


class Student(Optimised):
    """A module with a student, as the distiller is one; its loss draws random numbers and has dropout."""

    def __init__(self, model: Any, steps: int) -> None:
        super().__init__(Optim(lr=1e-3), steps, False)
        self.student = model

    def terms(self, batch: dict[str, Any]) -> dict[str, Any]:
        states = self.student(input_ids=batch["input_ids"]).last_hidden_state
        return {"loss": (states * torch.randn(48)).mean()}


@pytest.fixture
def evaluator(tiny_task: Path) -> Any:
    words = ["evaluator=knn", "task@evaluator.task=classification", f"evaluator.task.path={tiny_task}"]
    words += [
        "evaluator.k=3",
        "evaluator.length=32",
        "evaluator.train_examples=20",
        "evaluator.dev_examples=10",
    ]
    return build(compose_command("distill", [*words, "evaluator.task.length=32"]).evaluator, "evaluator")


def train(folder: Path, model: Path, evaluator: Any, steps: int = 10, every: int = 1) -> Any:
    """Journal, callbacks and weights of a training of `steps` steps."""
    folder.mkdir(exist_ok=True)
    cfg = compose_command("distill", ["trainer.log_every=1", "impl.precision=32", "trainer.accelerator=cpu"])
    batches = [{"input_ids": torch.arange(16).reshape(2, 8) + n, "tokens": 16} for n in range(5)]
    journal = Journal(folder / "metrics.jsonl", 1)
    callbacks = []
    if evaluator is not None:
        evaluator.prepare(None, folder / "cache")
        tokenizer = AutoTokenizer.from_pretrained(model)
        measure = {"evaluator": lambda module: evaluator(evaluator.wrap(module.student, tokenizer))}
        callbacks = [Evaluating(journal, measure, every)]
    module = Student(AutoModel.from_pretrained(model, add_pooling_layer=False), steps)
    how = How(build(cfg.impl, "impl"), build(cfg.trainer, "trainer"), None, build(cfg.paths, "paths"), "")

    def loader(step: int, rank: int, world: int) -> Any:
        return DataLoader([batches[n % 5] for n in range(step, steps)], batch_size=None)

    fit(Training(module.train(), loader, steps, 3, callbacks), folder, journal, how)
    assert module.student.training
    return lines(folder), callbacks, module.student.state_dict()


def test_training_does_not_notice(tmp_path: Path, tiny_teacher: Path, evaluator: Any) -> None:
    plain, _, alone = train(tmp_path / "plain", tiny_teacher, None)
    evaluatord, callbacks, beside = train(tmp_path / "evaluatord", tiny_teacher, evaluator, every=1)
    assert [line for line in evaluatord if "loss" in line] == plain
    assert all(torch.equal(alone[name], beside[name]) for name in alone)
    found = [line for line in evaluatord if "evaluator" in line]
    assert [line["step"] for line in found] == list(range(11))
    ends = {"first": found[0]["evaluator"], "last": found[-1]["evaluator"]}
    assert callbacks[0].first_and_last("evaluator") == ends
    assert all(set(line["evaluator"]) == {"classification_knn_accuracy"} for line in found)


def test_when_it_measures(tmp_path: Path, tiny_teacher: Path, evaluator: Any) -> None:
    journal, callbacks, _ = train(tmp_path, tiny_teacher, evaluator, every=4)
    assert [line["step"] for line in journal if "evaluator" in line] == [0, 4, 8, 10]
    other = Evaluating(callbacks[0].journal, {"evaluator": callbacks[0].evaluations["evaluator"]}, 4)
    assert other.state_key == callbacks[0].state_key
    other.load_state_dict(callbacks[0].state_dict())
    assert other.first_and_last("evaluator") == callbacks[0].first_and_last("evaluator")
