"""Run one fine-tuning in its folder: features, model, training, predictions, scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from minilm_lab.evaluation.result import Result
from minilm_lab.models import sources
from minilm_lab.models.parameters import count_parameters
from minilm_lab.models.saving import save_model
from minilm_lab.runs.files import write_atomically
from minilm_lab.runs.folder import RunFolder
from minilm_lab.tasks.base import Examples, Splits, Task
from minilm_lab.tasks.batching import batches_per_epoch, eval_batches, loader
from minilm_lab.tasks.feature_cache import FeatureCache
from minilm_lab.tasks.features import Features
from minilm_lab.training.devices import precision_of, use_fastest_attention, uses_gpu
from minilm_lab.training.evaluating import Best, Evaluating, Evaluation
from minilm_lab.training.finetuner import Finetuner
from minilm_lab.training.fit import Training
from minilm_lab.training.job import Product, journal_of, train
from minilm_lab.training.settings import How, Tune, micro_batch

#: Sentences a batch in evaluation, as a multiple of the training batch: no gradients are kept.
EVALUATION = 4


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
        how, tune, task = self.how, self.tune, self.task
        journal = journal_of(folder, how)
        tokenizer = sources.load_tokenizer(self.source, self.revision, "source")
        tokens = FeatureCache(how.cache, tokenizer)
        train_features = tokens.featurize(task, self.splits.train, training=True)
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
        per_epoch = batches_per_epoch(len(train_features), tune.batch_size)
        steps = per_epoch * self.epochs
        precision = precision_of(how.impl, how.trainer.accelerator)
        use_fastest_attention(model, not uses_gpu(how.trainer.accelerator), precision, task.length)
        module = Finetuner(model, head, tune, steps, fused=precision != "16-mixed")
        evaluations = {name: self._evaluation(name, *split) for name, split in judged.items()}
        best = tune.select == "best"
        evaluating = Evaluating(
            journal,
            {"dev": evaluations.pop("dev")},
            per_epoch if task.judged_each_epoch or best else steps,
            at_start=False,
            epoch=per_epoch,
            best=Best("dev", task.score) if best else None,
            chosen=evaluations,
            keep_weights=tune.save_model,
        )
        micro = micro_batch(tune.batch_size, how.trainer, "tune.batch_size")

        def batches(step: int, rank: int, world: int) -> Any:
            return loader(
                train_features,
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
            extra = {name: r["scores"] for name, r in results.items() if name != "dev" and r["scores"]}
            scores = {k: float(v) for k, v in task.combine(results["dev"]["scores"], extra).items()}
            body = getattr(model, model.base_model_prefix)
            record = {
                "source": self.origin,
                "scores": scores,
                "score": {"name": task.score, "value": scores[task.score]},
                "definitions": task.definitions(scores),
                "selection": f"epoch {evaluating.kept['step'] // per_epoch} of {self.epochs}"
                + (" (best on dev)" if best else " (last)"),
                "history": [entry["dev"] for entry in evaluating.history],
                "data_note": self.splits.data_note,
                "details": {name: result["facts"] for name, result in results.items() if result["facts"]},
                "examples": {"train": len(self.splits.train)}
                | {name: len(examples) for name, (examples, _) in judged.items()},
                "parameters": count_parameters(body),
                "layers": int(model.config.num_hidden_layers),
                "hidden_size": int(model.config.hidden_size),
            }
            for name, text in _files(results).items():
                write_atomically(folder.path / name, text.encode())
            if tune.save_model:
                module.load_state_dict(evaluating.kept["weights"])
                save_model(folder.path / "model", model, tokenizer)
            summary = {f"score/{name}": value for name, value in scores.items()}
            return Product(record, summary, used=self.origin["run"])

        training = Training(module, batches, steps, tune.seed, [evaluating])
        names = {**self.names, "task": task.name}
        return train(training, journal, folder, how, names, complete, self.origin)

    def _evaluation(self, split: str, examples: Examples, features: Features) -> Evaluation:
        """A split's predictions, shared out over the processes, and its scores."""

        def part(module: Finetuner, rank: int, world: int) -> dict[int, Any]:
            batches = eval_batches(features, EVALUATION * self.tune.batch_size)
            return module.predict(islice(batches, rank, None, world))

        def whole(parts: list[dict[int, Any]]) -> Result:
            outputs = {row: output for part in parts for row, output in part.items()}
            assert len(outputs) == len(features), "every row is in a batch"
            outcome = self.task.judge([outputs[n] for n in range(len(features))], examples, features, split)
            return Result(dict(outcome.scores), outcome.rows, outcome.files, outcome.facts)

        return Evaluation(part, whole)


def _files(results: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Name -> text of the predictions and of what a task adds."""
    files: dict[str, str] = {}
    for split, result in results.items():
        name = "predictions.jsonl" if split == "dev" else f"predictions_{split}.jsonl"
        files[name] = "".join(json.dumps(row) + "\n" for row in result["rows"])
        files |= result["files"]
    return files
