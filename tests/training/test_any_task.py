"""The fine-tuner knows nothing of classes and texts: two towers with negatives, and an adapter on a frozen model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.parts import read_how
from minilm_lab.data.loading import Batch, Samples
from minilm_lab.data.splits import Splits, table
from minilm_lab.evaluation.result import Result
from minilm_lab.models.parameters import count_parameters
from minilm_lab.models.saving import save_model
from minilm_lab.runs.graph import Run
from minilm_lab.tasks.base import Backbone, Task
from minilm_lab.tasks.features import Features, encode
from minilm_lab.tasks.module import TaskModule
from minilm_lab.tasks.remembered import data_of
from minilm_lab.training.finetuning import Finetuning
from minilm_lab.training.settings import Tune

from .helpers import lines

WORDS = ("the", "cat", "dog", "sat", "on", "mat", "rain", "fell")


@dataclass(frozen=True)
class Fields:
    """Two fields a row, tokenised apart."""

    asked: Features
    given: Features

    @property
    def lengths(self) -> np.ndarray:
        return self.asked.lengths + self.given.lengths

    def batch(self, rows: np.ndarray) -> Batch:
        both = {"asked": self.asked.batch(rows), "given": self.given.batch(rows)}
        return {f"{name}_{key}": value for name, part in both.items() for key, value in part.items()}


class Towers(TaskModule):
    """One body for both fields; the other rows of a batch are the negatives."""

    def __init__(self, body: Any, tokenizer: Any) -> None:
        super().__init__()
        self.body, self.tokenizer = body, tokenizer

    def vectors(self, batch: Batch, name: str) -> Tensor:
        mask = batch[f"{name}_attention_mask"]
        states = self.body(input_ids=batch[f"{name}_input_ids"], attention_mask=mask).last_hidden_state
        return F.normalize(states.float().mul(mask[..., None]).sum(1), dim=1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        asked, given = self.vectors(batch, "asked"), self.vectors(batch, "given")
        contrast = F.cross_entropy(20 * asked @ given.T, torch.arange(len(asked)))
        return {"contrast": contrast, "spread": 0.1 * (asked.mean(0).square().sum())}

    def predict(self, batch: Batch) -> list[np.ndarray]:
        both = torch.stack([self.vectors(batch, "asked"), self.vectors(batch, "given")], dim=1)
        return list(both.cpu().numpy())

    def save(self, folder: Path) -> None:
        save_model(folder, self.body, self.tokenizer)

    def facts(self) -> dict[str, Any]:
        config = self.body.config
        return {
            "parameters": count_parameters(self.body),
            "layers": config.num_hidden_layers,
            "hidden_size": config.hidden_size,
        }


class Adapted(Towers):
    """The body is frozen; a low-rank map on its vectors is trained and saved alone."""

    def __init__(self, body: Any, tokenizer: Any) -> None:
        super().__init__(body.requires_grad_(False), tokenizer)
        width = body.config.hidden_size
        self.adapter = nn.Sequential(nn.Linear(width, 4, bias=False), nn.Linear(4, width, bias=False))

    def vectors(self, batch: Batch, name: str) -> Tensor:
        plain = super().vectors(batch, name)
        return F.normalize(plain + self.adapter(plain), dim=1)

    def save(self, folder: Path) -> None:
        folder.mkdir()
        torch.save(self.adapter.state_dict(), folder / "adapter.pt")


@dataclass
class Pairs(Task):
    """Which text belongs to which; judged by the rank of the right one among all."""

    kinds: ClassVar[tuple[str, ...]] = ("pairs",)
    kind: str = "pairs"
    name: str = "pairs"
    metrics: list[str] = field(default_factory=lambda: ["mean_rank"])
    score: str = "mean_rank"
    adapter: bool = False

    @property
    def decides(self) -> str:
        return "ranking"

    def known_metrics(self) -> Mapping[str, str]:
        return {"mean_rank": "minus the mean rank of the right text among all"}

    def load(self, hub: str | None, cache: Path) -> Splits:
        rows = [[f"{a} {b}", f"{b} {b} {a}"] for a in WORDS for b in WORDS]
        columns = {"asked": [row[0] for row in rows], "given": [row[1] for row in rows]}
        whole = table(id=[str(n) for n in range(len(rows))], **columns)
        odd = [n for n in range(len(rows)) if n % 4 == 1]
        return Splits(whole.select([n for n in range(len(rows)) if n % 4 != 1]), whole.select(odd))

    def module(self, backbone: Backbone, splits: Splits) -> TaskModule:
        body = AutoModel.from_pretrained(backbone.where)
        return (Adapted if self.adapter else Towers)(body, backbone.tokenizer)

    def features(self, splits: Splits, name: str, tokenizer: Any) -> Samples:
        split = splits.named(name)
        return Fields(*(encode(tokenizer, split[field][:], length=16) for field in ("asked", "given")))

    def judge(self, outputs: Sequence[np.ndarray], samples: Samples, splits: Splits, name: str) -> Result:
        asked, given = np.stack(outputs).transpose(1, 0, 2)
        scores = asked @ given.T
        ranks = (scores > np.diag(scores)[:, None]).sum(axis=1) + 1
        rows = [
            {"id": i, "rank": int(rank)} for i, rank in zip(splits.judged[name]["id"][:], ranks, strict=True)
        ]
        return Result({"mean_rank": -float(ranks.mean())}, rows)


@pytest.fixture
def job(tiny: list[str], tiny_teacher: Path, tmp_path: Path) -> Finetuning:
    """A fine-tuning of 48 pairs, 6 steps an epoch, without dropout's help to see a difference."""
    words = [*tiny, "trainer.log_every=1", "trainer.checkpoint_every=2"]
    how = read_how(compose_command("finetune", words))
    task = Pairs()
    tune = Tune(lr=2e-3, batch_size=8, evaluate_every=4, select="best", save_model=True)
    origin = {"kind": "path", "run": None, "config": {}}
    return Finetuning(str(tiny_teacher), None, origin, {}, task, data_of(task, None, tmp_path), tune, 3, how)


def run_of(job: Finetuning, name: str) -> Run:
    return Run("finetune", name, {"test": name}, job, lambda: 0.0)


def test_two_towers_with_negatives_and_two_losses_are_judged_every_four_steps(job: Finetuning) -> None:
    run = run_of(job, "towers")
    record = run.make()
    steps = lines(run.folder.path)
    losses = [line for line in steps if "loss" in line]
    assert len(losses) == 18
    for line in losses:
        assert line["loss"] == pytest.approx(line["contrast"] + line["spread"], rel=1e-5)
    contrast = [line["contrast"] for line in losses]
    assert sum(contrast[-6:]) < sum(contrast[:6])
    assert [line["step"] for line in steps if "dev" in line] == [4, 8, 12, 16, 18]
    ranks = [entry["mean_rank"] for entry in record["history"]]
    assert record["score"] == {"name": "mean_rank", "value": max(ranks)}
    assert record["selection"].endswith("(best on dev)") and record["definitions"]["mean_rank"]
    assert record["tokens_seen"] == 3 * _tokens(job), "of both fields, in three epochs"
    saved = AutoModel.from_pretrained(run.folder.path / "model")
    module = Towers(saved.eval(), AutoTokenizer.from_pretrained(run.folder.path / "model"))
    (evaluator,) = job.task.evaluators(job.splits, module.tokenizer, job.how.cache, 5).values()
    assert evaluator(module).scores["mean_rank"] == pytest.approx(max(ranks))


def _tokens(job: Finetuning) -> int:
    tokenizer = job.task.backbone(job.source, None).tokenizer
    return int(job.task.features(job.splits, "train", tokenizer).lengths.sum())


def test_of_an_adapter_only_what_is_trained_is_kept_and_it_resumes_to_the_bit(
    job: Finetuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(job, task=Pairs(adapter=True))
    whole = run_of(job, "whole")
    record = whole.make()

    broken, count = run_of(job, "broken"), 0
    losses = Adapted.losses

    def until_the_ninth(self: Adapted, batch: Batch) -> dict[str, Tensor]:
        nonlocal count
        count += 1
        if count == 9:
            raise KeyboardInterrupt
        return losses(self, batch)

    monkeypatch.setattr(Adapted, "losses", until_the_ninth)
    with pytest.raises(KeyboardInterrupt):
        broken.make()
    checkpoint = sorted((broken.folder.path / "checkpoints").glob("step-*.ckpt"))[-1]
    state = torch.load(checkpoint, weights_only=True)
    assert set(state["state_dict"]) == {"model.adapter.0.weight", "model.adapter.1.weight"}
    assert checkpoint.stat().st_size < 60_000
    monkeypatch.setattr(Adapted, "losses", losses)
    again = broken.make()
    assert lines(broken.folder.path) == lines(whole.folder.path)
    assert again["history"] == record["history"] and again["scores"] == record["scores"]
    files = [run.folder.path / "model" / "adapter.pt" for run in (whole, broken)]
    states = [torch.load(file, weights_only=True) for file in files]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
