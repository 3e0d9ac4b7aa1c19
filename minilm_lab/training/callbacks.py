"""What happens around a step: randomness by step, the journal, the progress bar, the held-out loss."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from minilm_lab.probes.base import Probe
from minilm_lab.runs import metrics
from minilm_lab.tasks.base import Splits


class RandomnessByStep(pl.Callback):
    """Seeds dropout from (seed, micro-batch, rank).

    So randomness is a function of where training is, not of how it got there: a resumed run draws what the
    uninterrupted one drew, and no generator state is kept.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int
    ) -> None:
        """`index` counts micro-batches and is restored by Lightning; steps are safe against its changes."""
        micro = index % trainer.accumulate_grad_batches
        words = (self.seed, trainer.global_step, micro, trainer.global_rank)
        state = np.random.SeedSequence(words).generate_state(2)
        torch.manual_seed((int(state[0]) << 32 | int(state[1])) & (2**63 - 1))


class Journal(pl.Callback):
    """Writes a line of metrics.jsonl (and to the loggers) every `every` steps.

    Losses are summed on the device: a step that writes nothing never waits for it.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every
        self.tokens = 0
        self.step = 0
        self._sums: dict[str, Tensor | int] = {}
        self._batches = 0
        self._uncounted: Tensor | int = 0
        self._mark = (time.monotonic(), 0)
        self.recent: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """Tokens so far; the sums are empty at a checkpoint."""
        return {"tokens": self.tokens}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self.tokens = int(state["tokens"])

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the clock of this session."""
        self.step = trainer.global_step
        self._mark = (time.monotonic(), self.tokens)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Add up; write when due."""
        for name, value in outputs.items():
            # Lightning has divided the loss by the number of micro-batches, and nothing else.
            scale = trainer.accumulate_grad_batches if name == "loss" else 1
            self._sums[name] = self._sums.get(name, 0) + value.detach() * scale
        self._batches += 1
        # Corpora count the real tokens of a batch; fine-tuning batches have their mask.
        tokens = batch["tokens"] if "tokens" in batch else batch["attention_mask"].sum()
        self._uncounted = self._uncounted + tokens
        if trainer.global_step == self.step:
            return  # within an accumulation
        self.step = trainer.global_step
        if self.step % self.every and self.step < trainer.max_steps:
            return
        means = {
            name: _over_ranks(trainer, value, "mean") / self._batches for name, value in self._sums.items()
        }
        self._sums, self._batches = {}, 0
        self.tokens += int(_over_ranks(trainer, self._uncounted, "sum"))
        self._uncounted = 0
        seconds, tokens = time.monotonic() - self._mark[0], self.tokens - self._mark[1]
        self._mark = (time.monotonic(), self.tokens)
        rate = tokens / max(seconds, 1e-9)
        lr = float(trainer.optimizers[0].param_groups[0]["lr"])
        line = {**means, "lr": lr, "tokens": self.tokens, "tokens_per_second": round(rate, 1)}
        self.recent = {"loss": means["loss"], "tokens_per_second": rate}
        self.write(trainer, line)

    def write(self, trainer: pl.Trainer, values: dict[str, Any]) -> None:
        """Write one line at the present step, to the file and to the loggers."""
        if not trainer.is_global_zero:
            return
        metrics.append(self.path, {"step": trainer.global_step, "time": round(time.time(), 3), **values})
        flat = {k: v for k, v in values.items() if isinstance(v, (int, float))}
        for name, scores in values.items():
            if isinstance(scores, dict):  # a dashboard sorts by "dev/accuracy"
                flat |= {f"{name}/{metric}": value for metric, value in scores.items()}
        for logger in trainer.loggers:
            logger.log_metrics(flat, step=trainer.global_step)


def _over_ranks(trainer: pl.Trainer, value: Tensor | int, how: str) -> float:
    """Sum or mean of a number of each process of the run."""
    if trainer.world_size == 1:
        return float(value)
    tensor = torch.as_tensor(value, dtype=torch.float64, device=trainer.strategy.root_device)
    return float(trainer.strategy.reduce(tensor, reduce_op=how))


class Progress(pl.Callback):
    """A bar with step, loss, tokens a second and time left; a line now and then where there is no terminal."""

    def __init__(self, journal: Journal, title: str) -> None:
        self.journal, self.title = journal, title
        self.bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Open the bar where training is."""
        if trainer.is_global_zero:
            tty = sys.stderr.isatty()
            self.bar = tqdm(
                total=trainer.max_steps,
                initial=trainer.global_step,
                desc=self.title,
                unit="step",
                dynamic_ncols=tty,
                mininterval=0.3 if tty else 30,
                maxinterval=1 if tty else 60,
            )

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Move on."""
        if self.bar is not None and trainer.global_step > self.bar.n:
            recent = self.journal.recent
            if recent:
                rate = f"{recent['tokens_per_second']:,.0f}"
                self.bar.set_postfix({"loss": f"{recent['loss']:.4f}", "tokens/s": rate}, refresh=False)
            self.bar.update(trainer.global_step - self.bar.n)

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Close the bar, also after an error."""
        if self.bar is not None:
            self.bar.close()


class Measuring(pl.Callback, ABC):
    """Measures the student as initialised, every `every` steps and at the end, also over a resume."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.first: Any = None
        self.last: Any = None
        self.measured = -1

    @abstractmethod
    def measure(self, trainer: pl.Trainer, module: Any) -> Any:
        """Measure, write it to the journal, and return it."""

    def state_dict(self) -> dict[str, Any]:
        """The first and the last measurement."""
        return {"first": self.first, "last": self.last, "measured": self.measured}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.first, self.last, self.measured = state["first"], state["last"], state["measured"]

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """The student as initialised."""
        if trainer.global_step == 0:
            self._take(trainer, module)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Measure when due."""
        step = trainer.global_step
        if step != self.measured and (step % self.every == 0 or step == trainer.max_steps):
            self._take(trainer, module)

    def _take(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.measured = trainer.global_step
        self.last = self.measure(trainer, module)
        self.first = self.last if self.first is None else self.first


class HeldOut(Measuring):
    """The loss on blocks that are never trained on."""

    def __init__(self, journal: Journal, batches: Callable[[], Iterable[dict[str, Any]]], every: int) -> None:
        super().__init__(every)
        self.journal, self.batches = journal, batches

    @torch.no_grad()
    def measure(self, trainer: pl.Trainer, module: Any) -> float:
        """The mean loss of a block."""
        total, count = 0.0, 0
        module.student.eval()
        with trainer.precision_plugin.forward_context():
            for batch in self.batches():
                moved = trainer.strategy.batch_to_device(batch, module.device)
                size = len(batch["input_ids"])
                total += float(module.losses(moved)["loss"]) * size
                count += size
        module.student.train()
        loss = total / max(count, 1)
        self.journal.write(trainer, {"held_out_loss": loss})
        return loss


class Probing(Measuring):
    """A probe of the student, so that a researcher sees knowledge arrive and not only a loss: {"probe": {…}} lines.

    Training goes on as if it had not been there: no random number is drawn, and every module is put back into
    the mode it was in.
    """

    def __init__(
        self,
        probe: Probe,
        splits: Splits,
        tokenizer: PreTrainedTokenizerBase,
        journal: Journal,
        steps: int,
    ) -> None:
        super().__init__(probe.every or max(1, steps // 10))
        self.probe, self.splits, self.tokenizer, self.journal = probe, splits, tokenizer, journal

    def measure(self, trainer: pl.Trainer, module: Any) -> dict[str, float]:
        """What the probe finds, by name."""
        with trainer.precision_plugin.forward_context():
            found = self.probe.measure(module.student, self.tokenizer, self.splits)
        self.journal.write(trainer, {"probe": found})
        return found
