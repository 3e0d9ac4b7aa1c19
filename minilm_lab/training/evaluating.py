"""Evaluations during a training: of the model as it starts, every so many steps, and at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pytorch_lightning as pl
import torch

from minilm_lab.errors import LabError
from minilm_lab.evaluation.result import Result
from minilm_lab.models.encoder import evaluating
from minilm_lab.training.callbacks import Journal
from minilm_lab.training.sharding import whole_state, whole_weights


@dataclass(frozen=True)
class Evaluation:
    """One evaluation, shared out over the processes of a run: each does its part, and the parts make the result."""

    part: Callable[[Any, int, int], Any]
    """(LightningModule, rank, number of processes) -> what this process finds; anything that can be pickled."""
    whole: Callable[[list[Any]], Result]
    """The parts, in the order of the ranks -> the result."""


def by_one(evaluate: Callable[[Any], Result], turn: int) -> Evaluation:
    """An evaluation (LightningModule -> Result) that cannot be split: one process does it, number `turn` in turn."""
    return Evaluation(
        lambda module, rank, world: evaluate(module) if rank == turn % world else None,
        lambda parts: next(part for part in parts if part is not None),
    )


@dataclass(frozen=True)
class Best:
    """Which evaluation counts, where that is not the last."""

    name: str
    """Of the evaluation."""
    score: str
    higher_is_better: bool = True


class Evaluating(pl.Callback):
    """Runs evaluations and writes their scores into metrics.jsonl, under their names; training does not notice.

    Lines and state are the same after a resume. The model is in eval mode, without gradients and in the run's
    precision; what it draws at random would be seen in training, and evaluations draw nothing.
    """

    def __init__(
        self,
        journal: Journal,
        evaluations: Mapping[str, Evaluation | Callable[[Any], Result]],
        every: int,
        *,
        at_start: bool = True,
        epoch: int | None = None,
        best: Best | None = None,
        chosen: Mapping[str, Evaluation | Callable[[Any], Result]] | None = None,
        keep_weights: bool = False,
    ) -> None:
        """evaluations: by the name that the line has; every: steps between two; epoch: steps of one, told in the line.

        best: the evaluation that counts, in place of the last one. `kept` is of that one: all results and, with
        keep_weights, the state of the module. chosen: evaluations of that one alone: nothing is ever chosen by them.
        """
        self.journal, self.every, self.at_start, self.epoch = journal, every, at_start, epoch
        self.evaluations, self.chosen = _shared(evaluations), _shared(chosen or {})
        self.best, self.keep_weights = best, keep_weights
        self.history: list[dict[str, Any]] = []
        """{"step": …, name of an evaluation: its scores}; a score of the evaluation's own name is a number."""
        self.kept: dict[str, Any] = {}
        """{"step": …, "results": {name: Result as a dictionary}, "weights": …} of the evaluation that counts."""

    @property
    def state_key(self) -> str:
        """Several may run beside each other, with different names."""
        return f"Evaluating:{','.join(self.evaluations)}"

    def state_dict(self) -> dict[str, Any]:
        """All of it: a resumed run ends with the same record."""
        return {"history": self.history, "kept": self.kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self.history, self.kept = state["history"], state["kept"]

    def first_and_last(self, name: str) -> dict[str, Any]:
        """{"first": scores before training, "last": at the end}."""
        return {"first": self.history[0][name], "last": self.history[-1][name]}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """The model as it starts."""
        if self.at_start and trainer.global_step == 0:
            self._run(trainer, module)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """When due, before the checkpoint of the same step is written."""
        step = trainer.global_step
        done = self.history[-1]["step"] if self.history else 0
        if step != done and (step % self.every == 0 or step == trainer.max_steps):
            self._run(trainer, module)

    def _run(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        step = trainer.global_step
        results = {name: _evaluate(trainer, module, each) for name, each in self.evaluations.items()}
        counts = step == trainer.max_steps if self.best is None else self._is_best(self.best, results)
        self.history.append({"step": step, **_scores(results)})
        if counts:
            results |= {name: _evaluate(trainer, module, each) for name, each in self.chosen.items()}
            self.kept = {"step": step, "results": {name: _plain(result) for name, result in results.items()}}
            if self.keep_weights:
                weights = whole_state(trainer, module)
                self.kept["weights"] = {name: x.detach().cpu().clone() for name, x in weights.items()}
        if scores := _scores(results):
            epoch = {} if self.epoch is None else {"epoch": step // self.epoch}
            self.journal.write(trainer, epoch | scores)

    def _is_best(self, best: Best, results: Mapping[str, Result]) -> bool:
        if not self.kept:
            return True
        before, now = (
            self.kept["results"][best.name]["scores"][best.score],
            results[best.name].scores[best.score],
        )
        return bool(now > before if best.higher_is_better else now < before)


def _shared(evaluations: Mapping[str, Evaluation | Callable[[Any], Result]]) -> dict[str, Evaluation]:
    return {
        name: each if isinstance(each, Evaluation) else by_one(each, turn)
        for turn, (name, each) in enumerate(evaluations.items())
    }


def _plain(result: Result) -> dict[str, Any]:
    # Checkpoints hold plain numbers: they are read without running code.
    return asdict(result) | {"scores": {name: float(value) for name, value in result.scores.items()}}


def _scores(results: Mapping[str, Result]) -> dict[str, Any]:
    line: dict[str, Any] = {}
    for name, result in results.items():
        scores = {metric: float(value) for metric, value in result.scores.items()}
        if scores:
            line[name] = scores[name] if list(scores) == [name] else scores
    return line


def _evaluate(trainer: pl.Trainer, module: pl.LightningModule, evaluation: Evaluation) -> Result:
    part, failure = None, None
    try:
        with whole_weights(trainer), evaluating(module), trainer.precision_plugin.forward_context():
            part = evaluation.part(module, trainer.global_rank, trainer.world_size)
    except Exception as error:
        if trainer.world_size == 1:
            raise
        failure = error
    parts = [part]
    if trainer.world_size > 1:
        # A process that failed says so: the others would wait for it.
        gathered: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(gathered, (part, failure is not None))
        if failure is not None:
            raise failure
        if any(failed for _, failed in gathered):
            raise LabError("another process of this run stopped during an evaluation: see its message")
        parts = [part for part, _ in gathered]
    return evaluation.whole(parts)
