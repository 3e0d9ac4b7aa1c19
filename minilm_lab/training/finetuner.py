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

    def terms(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """{"loss": of the head}."""
        return {"loss": self.head.loss(self.model, batch)}

    @torch.no_grad()
    def predict(self, batches: Iterable[Batch]) -> dict[int, np.ndarray]:
        """What the head reads for each row of the batches, by its number in the data (`index` of a batch)."""
        outputs: dict[int, np.ndarray] = {}
        for batch in batches:
            rows = batch["index"].tolist()
            moved = {k: v.to(self.device) for k, v in batch.items() if k != "index"}
            outputs |= zip(rows, self.head.read(self.model, moved), strict=True)
        return outputs
