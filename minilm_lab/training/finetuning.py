"""Run one fine-tuning in its folder: features, model, training, predictions, scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from transformers.utils import logging as transformers_logging

from minilm_lab.models import sources
from minilm_lab.models.parameters import count_parameters
from minilm_lab.models.saving import save_model
from minilm_lab.runs.files import write_atomically
from minilm_lab.runs.folder import RunFolder
from minilm_lab.tasks.base import Examples, Outcome, Splits, Task
from minilm_lab.tasks.batching import batches_per_epoch, eval_batches, loader
from minilm_lab.tasks.feature_cache import FeatureCache
from minilm_lab.tasks.features import Features
from minilm_lab.training.attention import use_fastest_attention
from minilm_lab.training.callbacks import Journal
from minilm_lab.training.finetuner import Finetuner
from minilm_lab.training.fit import fit, micro_batch, precision_of, uses_gpu
from minilm_lab.training.loggers import close, finish
from minilm_lab.training.settings import How, Tune

#: Sentences a batch in evaluation, as a multiple of the training batch: no gradients are kept.
EVALUATION = 4


class Evaluate(pl.Callback):
    """Scores the dev split after each epoch; keeps the predictions (and the weights) of the epoch that counts.

    Where the task is not judged after each epoch, and no epoch is chosen, it scores after the last one alone.
    The other splits are predicted with that epoch alone: nothing is ever chosen on them.
    """

    def __init__(
        self, job: Finetuning, splits: dict[str, tuple[Examples, Features]], journal: Journal, every: int
    ) -> None:
        self.job, self.splits, self.journal, self.every = job, splits, journal, every
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
        job, epoch, ended = self.job, step // self.every, step >= trainer.max_steps
        if not (ended or job.task.judged_each_epoch or job.tune.select == "best"):
            return
        outcomes = {"dev": self._judge(trainer, module, "dev")}
        dev = _plain(outcomes["dev"].scores)
        self.history.append(dev)
        counts = ended
        if job.tune.select == "best":
            counts = not self.kept or dev[job.task.score] > self.kept["dev"][job.task.score]
        if counts:
            outcomes |= {name: self._judge(trainer, module, name) for name in self.splits if name != "dev"}
        scored = {name: outcome.scores for name, outcome in outcomes.items() if outcome.scores}
        self.journal.write(trainer, {"epoch": epoch, **scored})
        if counts:
            self.kept = {"epoch": epoch, "dev": dev, **job.product(outcomes)}
            if job.tune.save_model:
                weights = module.model.state_dict()
                self.kept["weights"] = {k: v.detach().cpu().clone() for k, v in weights.items()}

    def _judge(self, trainer: pl.Trainer, module: Finetuner, split: str) -> Outcome:
        examples, features = self.splits[split]
        batches = eval_batches(features, EVALUATION * self.job.tune.batch_size)
        with trainer.precision_plugin.forward_context():
            outputs = module.predict(batches, len(features))
        return self.job.task.judge(outputs, examples, features, split)


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
        """Fine-tune, save the predictions (predictions.jsonl is dev's) and return its part of the record."""
        transformers_logging.disable_progress_bar()
        how, tune, task = self.how, self.tune, self.task
        tokenizer = sources.load_tokenizer(self.source, self.revision, "source")
        tokens = FeatureCache(how.cache, tokenizer)
        train = tokens.featurize(task, self.splits.train, training=True)
        judged = {
            name: (examples, tokens.featurize(task, examples, training=False))
            for name, examples in {"dev": self.splits.dev, **self.splits.extra}.items()
        }
        head = task.head(self.splits)
        # A new head starts at random: from tune.seed, whatever ran before in this process.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(tune.seed)
            model = head.load(self.source, self.revision).train()
        sources.check_tokenizer(tokenizer, model.config, self.source)
        per_epoch = batches_per_epoch(len(train), tune.batch_size)
        steps = per_epoch * self.epochs
        precision = precision_of(how.impl, how.trainer.accelerator)
        use_fastest_attention(model, not uses_gpu(how.trainer.accelerator), precision, task.length)
        module = Finetuner(model, head, tune, steps, fused=precision != "16-mixed")
        journal = Journal(folder.metrics, how.trainer.log_every)
        evaluate = Evaluate(self, judged, journal, per_epoch)
        about = {
            "identity": folder.identity,
            "command": "finetune",
            "name": folder.name,
            "experiment": how.experiment,
            "names": {**self.names, "task": task.name},
            "origin": self.origin,
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
            body = getattr(model, model.base_model_prefix)
            own = {
                "names": {**self.names, "task": task.name},
                "source": self.origin,
                "scores": scores,
                "score": {"name": task.score, "value": scores[task.score]},
                "definitions": task.definitions(scores),
                "selection": f"epoch {evaluate.kept['epoch']} of {self.epochs}"
                + (" (best on dev)" if tune.select == "best" else " (last)"),
                "history": evaluate.history,
                "data_note": self.splits.data_note,
                "details": evaluate.kept["details"],
                "examples": {"train": len(self.splits.train)}
                | {name: len(examples) for name, (examples, _) in judged.items()},
                "tokens_seen": journal.tokens,
                "precision": precision,
                "parameters": count_parameters(body),
                "layers": int(model.config.num_hidden_layers),
                "hidden_size": int(model.config.hidden_size),
            }
            finish(loggers, summary, used=self.origin["run"], record=own)
        finally:
            close()
        for name, text in evaluate.kept["files"].items():
            write_atomically(folder.path / name, text.encode())
        if tune.save_model:
            model.load_state_dict(evaluate.kept["weights"])
            save_model(folder.path / "model", model, tokenizer)
        return own

    def product(self, outcomes: dict[str, Outcome]) -> dict[str, Any]:
        """What the record and the folder keep of one epoch: scores, details and files, as plain values."""
        extra = {
            name: outcome.scores for name, outcome in outcomes.items() if name != "dev" and outcome.scores
        }
        files: dict[str, str] = {}
        for split, outcome in outcomes.items():
            name = "predictions.jsonl" if split == "dev" else f"predictions_{split}.jsonl"
            files[name] = "".join(json.dumps(row) + "\n" for row in outcome.rows)
            files |= outcome.files
        return {
            "scores": _plain(self.task.combine(outcomes["dev"].scores, extra)),
            "details": {name: outcome.facts for name, outcome in outcomes.items() if outcome.facts},
            "files": files,
        }


def _plain(scores: Mapping[str, float]) -> dict[str, float]:
    # Checkpoints hold plain numbers: they are read without running code.
    return {name: float(value) for name, value in scores.items()}
