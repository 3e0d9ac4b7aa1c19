"""The LightningModule that fine-tunes a model on a downstream task."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from minilm_lab.training.optimizer import Optimised
from minilm_lab.training.settings import Optim


class Finetuner(Optimised):
    """Sequence classification (cross-entropy) or regression (squared error, one output)."""

    def __init__(
        self, model: PreTrainedModel, kind: str, optim: Optim, steps: int, *, fused: bool = True
    ) -> None:
        super().__init__(optim, steps, fused)
        self.model, self.kind = model, kind

    def logits(self, batch: dict[str, Any]) -> Tensor:
        """Return (batch, labels) scores in float32; (batch, 1) for regression."""
        inputs = {k: batch[k] for k in ("input_ids", "attention_mask", "token_type_ids") if k in batch}
        return self.model(**inputs).logits.float()

    def training_step(self, batch: dict[str, Any], index: int) -> dict[str, Tensor]:
        """One micro-batch."""
        logits = self.logits(batch)
        if self.kind == "regression":
            return {"loss": F.mse_loss(logits.squeeze(-1), batch["labels"].float())}
        return {"loss": F.cross_entropy(logits, batch["labels"].long())}

    @torch.no_grad()
    def predict(self, batches: Any, size: int) -> Tensor:
        """Logits (size, labels) of batches that carry `index`, put back into the order of the data."""
        self.model.eval()
        out: Tensor | None = None
        for batch in batches:
            indices = batch["index"].cpu()
            moved = {k: v.to(self.device) for k, v in batch.items() if isinstance(v, Tensor) and k != "index"}
            logits = self.logits(moved).cpu()
            if out is None:
                out = torch.zeros(size, logits.shape[-1])
            out[indices] = logits
        self.model.train()
        assert out is not None
        return out
