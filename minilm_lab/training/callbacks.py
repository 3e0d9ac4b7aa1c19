"""What happens around a step: randomness by step, the journal, the progress bar."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from tqdm import tqdm

from minilm_lab.runs import metrics


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
        self._uncounted = self._uncounted + _tokens(batch)
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


def _tokens(batch: dict[str, Any]) -> Tensor | int:
    """Real tokens of a batch: its own count, or the sum of its masks (of several fields, several)."""
    if "tokens" in batch:
        count: Tensor | int = batch["tokens"]
        return count
    return sum(mask.sum() for name, mask in batch.items() if name.endswith("attention_mask"))


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
