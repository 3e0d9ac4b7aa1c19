"""Run one fine-tuning in its folder: features, model, training, predictions, scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from minilm_lab.models import sources
from minilm_lab.models.parameters import count_parameters
from minilm_lab.models.saving import save_model
from minilm_lab.runs.files import write_atomically
from minilm_lab.runs.folder import RunFolder
from minilm_lab.tasks import metrics
from minilm_lab.tasks.base import Examples, Splits, Task
from minilm_lab.tasks.batching import batches_per_epoch, eval_batches, loader
from minilm_lab.tasks.features import Features, featurize
from minilm_lab.training.attention import use_fastest_attention
from minilm_lab.training.callbacks import Journal
from minilm_lab.training.finetuner import Finetuner
from minilm_lab.training.fit import fit, micro_batch, precision_of, uses_gpu
from minilm_lab.training.loggers import close, finish
from minilm_lab.training.settings import How, Tune

#: Sentences a batch in evaluation, as a multiple of the training batch: no gradients are kept.
EVALUATION = 4


class Evaluate(pl.Callback):
    """Scores the dev split after each epoch; keeps the outputs (and the weights) of the epoch that counts."""

    def __init__(
        self, job: Finetuning, dev: Features, examples: Examples, journal: Journal, every: int
    ) -> None:
        self.job, self.dev, self.examples, self.journal, self.every = job, dev, examples, journal, every
        self.history: list[dict[str, float]] = []
        self.kept: dict[str, Any] = {}
        self.measured = 0

    def state_dict(self) -> dict[str, Any]:
        """All of it: a resumed run ends with the same record."""
        return {"history": self.history, "kept": self.kept, "measured": self.measured}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self.history, self.kept, self.measured = state["history"], state["kept"], state["measured"]

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Evaluate at the end of an epoch, before the checkpoint of the same step is written."""
        step = trainer.global_step
        if step == self.measured or step % self.every:
            return
        self.measured = step
        assert isinstance(module, Finetuner)
        batches = eval_batches(self.dev, EVALUATION * self.job.tune.batch_size)
        with trainer.precision_plugin.forward_context():
            outputs = module.predict(batches, len(self.dev))
        task = self.job.task
        scores = metrics.score(task, task.predictions(outputs.numpy()), self.examples.references)
        self.history.append(scores)
        self.journal.write(trainer, {"epoch": step // self.every, "dev": scores})
        better = not self.kept or scores[task.score] > self.kept["scores"][task.score]
        if self.job.tune.select == "last" or better:
            self.kept = {"epoch": step // self.every, "scores": scores, "outputs": outputs}
            if self.job.tune.save_model:
                weights = module.model.state_dict()
                self.kept["weights"] = {k: v.detach().cpu().clone() for k, v in weights.items()}


@dataclass(frozen=True)
class Finetuning:
    """Everything a fine-tuning needs, typed and checked; nothing is loaded yet."""

    #: Folder or hub id of the model, and its revision on the hub.
    source: str
    revision: str | None
    #: Record of what is fine-tuned: {"kind": "teacher" | "run" | "path", "run": identity or None, …}.
    origin: dict[str, Any]
    names: dict[str, str]
    task: Task
    splits: Splits
    tune: Tune
    epochs: int
    how: How

    def train(self, folder: RunFolder) -> dict[str, Any]:
        """Fine-tune, save the dev predictions (predictions.jsonl) and return its part of the record."""
        transformers_logging.disable_progress_bar()
        how, tune = self.how, self.tune
        tokenizer = sources.load_tokenizer(self.source, self.revision, "source")
        train = featurize(self.splits.train, tokenizer, length=self.task.length)
        dev = featurize(self.splits.dev, tokenizer, length=self.task.length)
        model = self._model()
        per_epoch = batches_per_epoch(len(train), tune.batch_size)
        steps = per_epoch * self.epochs
        precision = precision_of(how.impl, how.trainer.accelerator)
        use_fastest_attention(model, not uses_gpu(how.trainer.accelerator), precision, self.task.length)
        module = Finetuner(model, self.task.kind, tune, steps, fused=precision != "16-mixed")
        journal = Journal(folder.metrics, how.trainer.log_every)
        evaluate = Evaluate(self, dev, self.splits.dev, journal, per_epoch)
        about = {
            "identity": folder.identity,
            "command": "finetune",
            "name": folder.name,
            "experiment": how.experiment,
            "config": {"task": self.task.name, **self.names, "origin": self.origin, "seed": tune.seed},
        }
        micro = micro_batch(tune.batch_size, how.trainer, "tune.batch_size")

        def batches(step: int, rank: int, world: int) -> Any:
            return loader(
                train,
                seed=tune.seed,
                batch_size=micro,
                first_batch=step,
                rank=rank,
                world_size=world,
                workers=how.impl.workers,
                accumulate=how.trainer.accumulate,
            )

        loggers = how.logger.build(folder.path, about)
        try:
            fit(
                module,
                batches,
                steps=steps,
                seed=tune.seed,
                title=folder.name,
                folder=folder.path,
                impl=how.impl,
                settings=how.trainer,
                loggers=loggers,
                journal=journal,
                callbacks=[evaluate],
            )
            scores: dict[str, float] = evaluate.kept["scores"]
            summary = {f"score/{name}": value for name, value in scores.items()}
            finish(loggers, summary, used=self.origin["run"])
        finally:
            close()
        self._save_predictions(folder.path, evaluate.kept["outputs"])
        if tune.save_model:
            model.load_state_dict(evaluate.kept["weights"])
            save_model(folder.path / "model", model, tokenizer)
        body = getattr(model, model.base_model_prefix)
        return {
            "names": {**self.names, "task": self.task.name},
            "source": self.origin,
            "scores": scores,
            "score": {"name": self.task.score, "value": scores[self.task.score]},
            "definitions": {name: metrics.DEFINITIONS[name] for name in self.task.metrics},
            "selection": f"epoch {evaluate.kept['epoch']} of {self.epochs}"
            + (" (best on dev)" if tune.select == "best" else " (last)"),
            "history": evaluate.history,
            "data_note": self.splits.data_note,
            "examples": {"train": len(self.splits.train), "dev": len(self.splits.dev)},
            "tokens_seen": journal.tokens,
            "precision": precision,
            "parameters": count_parameters(body),
            "layers": int(model.config.num_hidden_layers),
            "hidden_size": int(model.config.hidden_size),
        }

    def _model(self) -> PreTrainedModel:
        # The head starts at random: from tune.seed, whatever ran before in this process.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.tune.seed)
            outputs = self.splits.num_outputs
            return sources.load_classifier(self.source, self.revision, "source", outputs).train()

    def _save_predictions(self, folder: Path, outputs: Tensor) -> None:
        dev = self.splits.dev
        predictions = self.task.predictions(outputs.numpy())
        lines = [
            json.dumps({"id": i, "prediction": float(p), "reference": float(r), "outputs": o})
            for i, p, r, o in zip(dev.ids, predictions, dev.references, outputs.tolist(), strict=True)
        ]
        write_atomically(folder / "predictions.jsonl", ("\n".join(lines) + "\n").encode())
