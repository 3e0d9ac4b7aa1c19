"""Numerical guards: what is not finite stops a run and is named; a loss that jumps is written down."""

from __future__ import annotations

import logging
import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from minilm_lab.errors import LabError
from minilm_lab.training.callbacks import Journal
from minilm_lab.training.checkpoints import newest_whole, step_of

log = logging.getLogger(__name__)

SPIKE_DEVIATIONS, SPIKE_SHARE = 6.0, 0.1
"""A loss is a spike if it is this many standard deviations, and this share, above the mean of the steps before it."""
SPIKE_WINDOW, SPIKE_LEAST = 100, 20
"""How many steps before it are looked at, and how many there must be."""
MOST_SKIPPED = 50
"""float16: so many skipped steps in a row mean that no scale of the loss helps."""


class Guards(pl.Callback):
    """Looks at the loss and the gradient norm of every step, once every `every` steps: no step waits for the device.

    Stands before the journal and the checkpoints, so what is not finite is never written as training state. With
    float16 a gradient that is not finite is no error: the scaler skips the step and lowers its scale; such steps
    are counted in metrics.jsonl ({"skipped_steps": so far}). A spike is {"spike": {step, loss, mean, sd}} there.
    """

    def __init__(
        self,
        journal: Journal,
        loader: Callable[[int, int, int], Any],
        checkpoints: Path,
        every: int,
        seed: int,
    ) -> None:
        """loader: of `fit`; it tells which samples a step had. seed: of their order."""
        self.journal, self.loader, self.checkpoints = journal, loader, checkpoints
        self.every, self.seed = every, seed
        self.step = 0
        self.skipped = self.in_a_row = 0
        self.recent: deque[float] = deque(maxlen=SPIKE_WINDOW)
        self._pending: list[tuple[Tensor, Tensor | None]] = []
        self._micro: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """So that a resumed run writes the same lines; what is pending is empty at a checkpoint."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row, "recent": list(self.recent)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on."""
        self.skipped, self.in_a_row = int(state["skipped"]), int(state["in_a_row"])
        self.recent = deque(state["recent"], maxlen=SPIKE_WINDOW)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Count from where training starts."""
        self.step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Keep what the device computed; read it when a line is due."""
        # Lightning has divided the loss by the number of micro-batches: their sum is the mean.
        self._micro.append(outputs["loss"].detach())
        if trainer.global_step == self.step:
            return  # within an accumulation
        self.step = trainer.global_step
        self._pending.append((torch.stack(self._micro).sum(), getattr(module, "gradient_norm", None)))
        self._micro = []
        if self.step % self.every and self.step < trainer.max_steps:
            return
        losses, norms = (_numbers(values) for values in zip(*self._pending, strict=True))
        self._pending = []
        self._judge(trainer, losses, norms)

    def _judge(self, trainer: pl.Trainer, losses: list[float], norms: list[float]) -> None:
        scales = getattr(trainer.precision_plugin, "scaler", None) is not None
        before, wrong, at = self.skipped, None, self.step - len(losses)
        for loss, norm in zip(losses, norms, strict=True):
            at += 1
            wrong = self._wrong(at, loss, norm, scales)
            if wrong is not None:
                break
            self.skipped += not math.isfinite(norm)
            self._watch(trainer, at, loss)
        self._stop(trainer, wrong, at)
        if self.skipped > before:
            self.journal.write(trainer, {"skipped_steps": self.skipped})

    def _wrong(self, step: int, loss: float, norm: float, scales: bool) -> str | None:
        """What is not finite at a step and must stop the run; scales: whether a scaler may skip steps."""
        whole = math.isfinite(norm)
        self.in_a_row = 0 if whole else self.in_a_row + 1
        if not math.isfinite(loss):
            return f"the loss is not finite at step {step} ({loss})"
        if not whole and not scales:
            return f"the gradient is not finite at step {step} (norm {norm}, loss {loss:.6g})"
        if self.in_a_row >= MOST_SKIPPED:
            return f"the gradient is not finite at step {step}, for {self.in_a_row} steps in a row"
        return None

    def _watch(self, trainer: pl.Trainer, step: int, loss: float) -> None:
        """Write a spike down."""
        if len(self.recent) >= SPIKE_LEAST:
            mean, sd = statistics.fmean(self.recent), statistics.stdev(self.recent)
            if loss > mean + SPIKE_DEVIATIONS * sd and loss > mean + SPIKE_SHARE * abs(mean):
                self.journal.write(trainer, {"spike": {"step": step, "loss": loss, "mean": mean, "sd": sd}})
                if trainer.is_global_zero:
                    words = "the loss jumped to %.4g at step %d; the %d steps before: %.4g ± %.2g"
                    log.warning(words, loss, step, len(self.recent), mean, sd)
        self.recent.append(loss)

    def _stop(self, trainer: pl.Trainer, wrong: str | None, step: int) -> None:
        """Raise in every process of the run where something is wrong in one of them."""
        if trainer.world_size > 1:
            bad = torch.tensor(float(wrong is not None), device=trainer.strategy.root_device)
            if wrong is None and float(trainer.strategy.reduce(bad, reduce_op="sum")):
                raise LabError(
                    f"another process of this run stopped before step {self.step}: see its message"
                )
        if wrong is None:
            return
        batches = self.loader(step - 1, trainer.global_rank, trainer.world_size)
        samples = samples_of(batches, trainer.accumulate_grad_batches)
        last = newest_whole(self.checkpoints)
        good = (
            f"the last good checkpoint is {last} (step {step_of(last)})"
            if last
            else "there is no checkpoint yet"
        )
        raise LabError(
            f"{wrong}; its batch: {samples}, with seed {self.seed}; {good}. Lower the learning rate "
            "(optim.lr, tune.lr or head.lr), keep the gradient clipped (clip=1), or use impl.precision=32"
        )


def _numbers(values: Sequence[Tensor | None]) -> list[float]:
    """Scalars of the device as numbers, in one transfer; None (no norm was computed) as 0."""
    known = [value for value in values if value is not None]
    if not known:
        return [0.0] * len(values)
    read = iter(torch.stack([value.double() for value in known]).tolist())
    return [0.0 if value is None else next(read) for value in values]


def samples_of(batches: Any, micro_batches: int) -> str:
    """Which samples the first batches of a DataLoader have, in words: "samples 8 to 15", "samples 3, 99, 7 …"."""
    draws = getattr(batches, "batch_sampler", None) or getattr(batches, "sampler", None)
    if not isinstance(draws, Iterable):
        return "samples unknown"
    numbers = [int(number) for draw in islice(draws, micro_batches) for number in draw]
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"samples {numbers[0]} to {numbers[-1]}"
    return f"samples {', '.join(map(str, numbers[:64]))}" + (" …" if len(numbers) > 64 else "")
