"""The LightningModule that fine-tunes a task's module, and a fine-tuning's work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from minilm_lab.data.loading import batches_per_epoch, by_length
from minilm_lab.errors import LabError
from minilm_lab.evaluation.base import Evaluator
from minilm_lab.runs.files import write_atomically
from minilm_lab.runs.folder import RunFolder
from minilm_lab.tasks.augmented import Augmented, word_embeddings
from minilm_lab.tasks.features import Features
from minilm_lab.tasks.module import TaskModule
from minilm_lab.tasks.taught import Taught
from minilm_lab.training.devices import precision_of, uses_gpu
from minilm_lab.training.evaluating import Best, Evaluating, Evaluation
from minilm_lab.training.fit import Training
from minilm_lab.training.job import Product, journal_of, train
from minilm_lab.training.optimizer import Optimised
from minilm_lab.training.settings import Optim, micro_batch

if TYPE_CHECKING:
    from minilm_lab.training.finetuning import Finetuning

EVALUATION = 4
"""Samples a batch in evaluation, as a multiple of the training batch: no gradients are kept."""


class Finetuner(Optimised):
    """Minimises the sum of a task module's losses; what kind of task it is, only the module knows."""

    def __init__(self, model: TaskModule, optim: Optim, steps: int, *, fused: bool = True) -> None:
        super().__init__(optim, steps, fused)
        self.model = model

    def terms(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The module's losses; a single one is the loss and needs no other name."""
        losses = self.model.losses(batch)
        return losses if len(losses) > 1 else {"loss": next(iter(losses.values()))}


def finetune(job: Finetuning, folder: RunFolder) -> dict[str, Any]:
    """Fine-tune, save the predictions (predictions.jsonl is dev's) and return its part of the record."""
    how, tune, task = job.how, job.tune, job.task
    journal = journal_of(folder, how)
    plain = task.backbone(job.source, job.revision)
    backbone = replace(plain, pooling=tune.pooling, pairs=tune.pairs)
    samples = task.samples(job.splits, "train", backbone.tokenizer, how.cache)
    evaluators = task.evaluators(job.splits, backbone.tokenizer, how.cache, EVALUATION * tune.batch_size)
    # A new head starts at random: from tune.seed, whatever ran before in this process.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(tune.seed)
        model = task.module(backbone, job.splits).train()
    if tune.augment:
        assert isinstance(samples, Features)  # of one label a text: checked in planning
        vectors = word_embeddings(model)
        samples = Augmented(samples, backbone.tokenizer, vectors, tune.augment, tune.seed)
    if job.adapter.kind != "none":
        model.adapt(job.adapter, tune.seed, job.source)
    if job.teacher is not None:
        model = Taught(model, _teacher(job, job.teacher), tune.teacher_weight, tune.temperature)
    precision = precision_of(how.impl, how.trainer.accelerator)
    model.choose_kernels(
        on_cpu=not uses_gpu(how.trainer.accelerator), precision=precision, length=task.length
    )
    per_epoch = batches_per_epoch(len(samples.lengths), tune.batch_size)
    steps = per_epoch * job.epochs
    module = Finetuner(model, tune, steps, fused=precision != "16-mixed")
    best = tune.select == "best"
    dev = evaluators.pop("dev")
    evaluating = Evaluating(
        journal,
        {"dev": _evaluation(dev)},
        tune.evaluate_every or (per_epoch if task.judged_each_epoch or best else steps),
        at_start=False,
        epoch=per_epoch,
        best=Best("dev", dev.primary, dev.higher_is_better) if best else None,
        chosen={name: _evaluation(evaluator) for name, evaluator in evaluators.items()},
        keep_weights=tune.save_model,
    )
    micro = micro_batch(tune.batch_size, how.trainer, "tune.batch_size")

    def batches(step: int, rank: int, world: int) -> Any:
        return by_length(
            samples,
            seed=tune.seed,
            batch_size=micro,
            first_batch=step,
            rank=rank,
            world_size=world,
            workers=how.impl.workers,
            accumulate=how.trainer.accumulate,
        )

    def complete() -> Product:
        results = evaluating.kept["results"]
        scored = {n: r["scores"] for n, r in results.items() if n == "dev" or r["scores"]}
        scores = task.combine(scored)
        splits = {"train": job.splits.train, **job.splits.judged}
        record = {
            "source": job.origin,
            "scores": scores,
            "score": {"name": task.score, "value": scores[task.score]},
            "definitions": task.definitions(scores),
            "selection": _selection(job, evaluating.kept["step"], per_epoch),
            "history": [entry["dev"] for entry in evaluating.history],
            "data_note": job.splits.data_note,
            "details": {name: result["facts"] for name, result in results.items() if result["facts"]},
            "examples": {name: len(split) for name, split in splits.items()},
            **model.facts(),
        }
        for name, text in _files(results).items():
            write_atomically(folder.path / name, text.encode())
        if tune.save_model:
            module.load_state_dict(evaluating.kept["weights"])
            model.save(folder.path / "model")
        summary = {f"score/{name}": value for name, value in scores.items()}
        return Product(record, summary, used=job.origin["run"])

    training = Training(module, batches, steps, tune.seed, [evaluating])
    names = {**job.names, "task": task.name}
    return train(training, journal, folder, how, names, complete, job.origin)


def _teacher(job: Finetuning, folder: Path) -> TaskModule:
    if not folder.is_dir():
        raise LabError(
            f"tune.teacher: its run kept no model ({folder}). Delete the run's folder, or fine-tune it with "
            "tune.save_model=true, and start the same command again"
        )
    return job.task.module(job.task.backbone(str(folder), None, trained=True), job.splits)


def _selection(job: Finetuning, step: int, per_epoch: int) -> str:
    """Which moment the scores are of, in words."""
    chosen = " (best on dev)" if job.tune.select == "best" else " (last)"
    if step % per_epoch:
        return f"step {step} of {per_epoch * job.epochs}{chosen}"
    return f"epoch {step // per_epoch} of {job.epochs}{chosen}"


def _evaluation(evaluator: Evaluator) -> Evaluation:
    """An evaluator of the task's module as an evaluation of the LightningModule around it."""

    def part(module: Finetuner, rank: int, world: int) -> Any:
        model: TaskModule = module.model
        return evaluator.part(model, rank, world)

    return Evaluation(part, evaluator.whole)


def _files(results: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Name -> text of the predictions and of what a task adds."""
    files: dict[str, str] = {}
    for name, result in results.items():
        predictions = "predictions.jsonl" if name == "dev" else f"predictions_{name}.jsonl"
        files[predictions] = "".join(json.dumps(row) + "\n" for row in result["rows"])
        files |= result["files"]
    return files
