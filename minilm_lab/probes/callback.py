"""Measures a probe during distillation, so that a researcher sees knowledge arrive and not only a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from transformers import PreTrainedTokenizerBase

from minilm_lab.probes.base import Probe
from minilm_lab.tasks.base import Splits

if TYPE_CHECKING:
    from minilm_lab.training.callbacks import Journal


class Probing(pl.Callback):
    """Probes `module.student` at the start, every so many steps and at the end; writes {"probe": {…}} lines.

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
        self.probe, self.splits, self.tokenizer, self.journal = probe, splits, tokenizer, journal
        self.every = probe.every or max(1, steps // 10)
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.measured = -1

    def state_dict(self) -> dict[str, Any]:
        """The first and the last measurement."""
        return {"first": self.first, "last": self.last, "measured": self.measured}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.first, self.last, self.measured = state["first"], state["last"], state["measured"]

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """The student as initialised."""
        if trainer.global_step == 0:
            self._measure(trainer, module)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Measure when due."""
        step = trainer.global_step
        if step != self.measured and (step % self.every == 0 or step == trainer.max_steps):
            self._measure(trainer, module)

    def _measure(self, trainer: pl.Trainer, module: Any) -> None:
        self.measured = trainer.global_step
        with trainer.precision_plugin.forward_context():
            self.last = self.probe.measure(module.student, self.tokenizer, self.splits)
        self.first = self.first or self.last
        self.journal.write(trainer, {"probe": self.last})
