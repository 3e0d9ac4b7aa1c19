"""The LightningModule that trains a masked-LM head on a frozen body, and that training's work."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from minilm_lab.data.masking import masking_for
from minilm_lab.models.mlm import new_masked_lm, with_body
from minilm_lab.models.saving import save_model
from minilm_lab.models.tapped import Tapped
from minilm_lab.models.taps import Needs
from minilm_lab.runs.folder import RunFolder
from minilm_lab.training.devices import precision_of
from minilm_lab.training.fit import Training
from minilm_lab.training.job import Product, journal_of, train
from minilm_lab.training.optimizer import Optimised
from minilm_lab.training.settings import Optim
from minilm_lab.training.stream import open_stream

if TYPE_CHECKING:
    from minilm_lab.training.head_training import HeadTraining


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

    def terms(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """{"loss": cross-entropy of the masked tokens} for a batch of data.batches."""
        parts = (batch[name] for name in ("input_ids", "mask", "masked", "segments"))
        logits = self._hidden[0](*parts).logits
        return {"loss": F.cross_entropy(logits.float(), batch["labels"])}

    @property
    def trained(self) -> list[str]:
        """Names of the parameters that are trained."""
        return [name for name, p in self.student.named_parameters() if p.requires_grad]


def train_head(job: HeadTraining, folder: RunFolder) -> dict[str, Any]:
    """Train the head, save teacher and head to `model/`, and return this part of the record."""
    how, scale, head = job.how, job.scale, job.head
    journal = journal_of(folder, how)
    tokenizer = job.teacher.tokenizer(how.cache)
    body = job.teacher.body(how.cache)
    masking = masking_for(tokenizer, job.seed, head.mask_probability, int(body.config.vocab_size))
    model = with_body(new_masked_lm(body.config, job.seed), body)
    stream = open_stream(job.corpus, tokenizer, scale, job.seed, how, masking)
    optim = Optim(lr=head.lr, warmup=head.warmup)
    fused = precision_of(how.impl, how.trainer.accelerator) != "16-mixed"
    module = HeadTrainer(model, optim, scale.steps, fused=fused)
    held_out = stream.held_out(journal)

    def complete() -> Product:
        losses = held_out.first_and_last("held_out_loss")
        perplexity = {when: math.exp(loss) for when, loss in losses.items()}
        record = {
            "held_out_loss": losses,
            "held_out_perplexity": perplexity,
            "steps": scale.steps,
            "trained": module.trained,
        }
        model.requires_grad_(True)
        save_model(folder.path / "model", model, tokenizer, _card(job, folder.name, perplexity))
        return Product(record, {"held_out_perplexity": perplexity["last"]})

    training = Training(module, stream.batches, scale.steps, job.seed, [held_out])
    return train(training, journal, folder, how, job.names(), complete)


def _card(job: HeadTraining, name: str, perplexity: dict[str, float]) -> str:
    return f"""---
library_name: transformers
tags: [minilm-lab, masked-language-modelling]
---
# {name}

{job.teacher.name} with a masked-LM head trained by minilm-lab on a frozen body ({job.scale.steps} steps of
{job.scale.batch_size} x {job.scale.length} tokens of {job.corpus.name}): the body is the teacher's to the bit.

Perplexity of masked tokens of held-out text: {perplexity["first"]:,.0f} before, {perplexity["last"]:,.1f} after.
"""
