"""The LightningModule that trains a masked-LM head on a frozen body."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from minilm_lab.models.tapped import Tapped
from minilm_lab.models.taps import Needs
from minilm_lab.training.optimizer import Optimised
from minilm_lab.training.settings import Optim


class HeadTrainer(Optimised):
    """Masked language modelling with every parameter of the body frozen and its dropout off.

    The decoder's matrix is the word embeddings, as the families tie them, so it is frozen too: what is trained is
    the head's transform, its LayerNorm and the bias of the vocabulary.
    """

    def __init__(self, model: PreTrainedModel, optim: Optim, steps: int, *, fused: bool = True) -> None:
        super().__init__(optim, steps, fused)
        self.student = model.requires_grad_(True)
        body = model.base_model.requires_grad_(False)
        for module in body.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        self._hidden = (Tapped(model, Needs(logits=True)),)

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return {"loss": cross-entropy of the masked tokens} for a batch of data.batches."""
        logits = self._hidden[0](batch["input_ids"], batch["mask"], batch["masked"]).logits
        return {"loss": F.cross_entropy(logits.float(), batch["labels"])}

    def training_step(self, batch: dict[str, Any], index: int) -> dict[str, Tensor]:
        """One micro-batch."""
        return self.losses(batch)

    @property
    def trained(self) -> list[str]:
        """Names of the parameters that are trained."""
        return [name for name, p in self.student.named_parameters() if p.requires_grad]
