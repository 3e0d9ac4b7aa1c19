"""The LightningModule that fine-tunes a model on a downstream task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from minilm_lab.tasks.batching import Batch
from minilm_lab.tasks.heads import TaskHead
from minilm_lab.training.optimizer import Optimised
from minilm_lab.training.settings import Optim


class Finetuner(Optimised):
    """A model and the head's way to train and read it; what kind of task it is, only the head knows."""

    def __init__(
        self, model: PreTrainedModel, head: TaskHead, optim: Optim, steps: int, *, fused: bool = True
    ) -> None:
        super().__init__(optim, steps, fused)
        self.model, self.head = model, head

    def training_step(self, batch: dict[str, Any], index: int) -> dict[str, Tensor]:
        """One micro-batch."""
        return {"loss": self.head.loss(self.model, batch)}

    @torch.no_grad()
    def predict(self, batches: Iterable[Batch], size: int) -> list[np.ndarray]:
        """What the head reads for each of `size` rows, in the order of the data; batches carry `index`."""
        self.model.eval()
        out: list[np.ndarray | None] = [None] * size
        for batch in batches:
            rows = batch["index"].tolist()
            moved = {k: v.to(self.device) for k, v in batch.items() if k != "index"}
            for row, read in zip(rows, self.head.read(self.model, moved), strict=True):
                out[row] = read
        self.model.train()
        found = [read for read in out if read is not None]
        assert len(found) == size, "every row is in a batch"
        return found
