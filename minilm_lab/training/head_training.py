"""Run one training of a masked-LM head in its folder."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from transformers.utils import logging as transformers_logging

from minilm_lab.data.masking import masking_for
from minilm_lab.models.mlm import new_masked_lm, with_body
from minilm_lab.models.saving import save_model
from minilm_lab.models.teacher import Teacher
from minilm_lab.runs.folder import RunFolder
from minilm_lab.training.callbacks import Journal
from minilm_lab.training.fit import precision_of
from minilm_lab.training.head_trainer import HeadTrainer
from minilm_lab.training.loggers import close, finish
from minilm_lab.training.settings import Head, How, Optim, Scale
from minilm_lab.training.stream import open_stream, train_on


@dataclass(frozen=True)
class HeadTraining:
    """Everything the training of a head needs, typed and checked; nothing is loaded yet."""

    teacher: Teacher
    head: Head
    corpus: Any
    scale: Scale
    """With the head's own number of steps."""
    seed: int
    how: How

    def train(self, folder: RunFolder) -> dict[str, Any]:
        """Train the head, save teacher and head to `model/`, and return this part of the record."""
        transformers_logging.disable_progress_bar()
        how, cache = self.how, self.how.cache
        tokenizer = self.teacher.tokenizer(cache)
        body = self.teacher.body(cache)
        masking = masking_for(tokenizer, self.seed, self.head.mask_probability, int(body.config.vocab_size))
        model = with_body(new_masked_lm(body.config, self.seed), body)
        stream = open_stream(self.corpus, tokenizer, self.scale, self.seed, how, masking)
        precision = precision_of(how.impl, how.trainer.accelerator)
        optim = Optim(lr=self.head.lr, warmup=self.head.warmup)
        module = HeadTrainer(model, optim, self.scale.steps, fused=precision != "16-mixed")
        journal = Journal(folder.metrics, how.trainer.log_every)
        about = {
            "identity": folder.identity,
            "command": "pretrain",
            "name": folder.name,
            "experiment": how.experiment,
            "config": {"teacher": self.teacher.name, **dataclasses.asdict(self.head), "seed": self.seed},
            "names": self._names(),
        }
        loggers = how.logger.build(folder.path, about)
        try:
            measure = train_on(module, stream, folder, journal, loggers)
            perplexity = {"first": math.exp(measure.first), "last": math.exp(measure.last)}
            own = {
                "names": self._names(),
                "held_out_loss": {"first": measure.first, "last": measure.last},
                "held_out_perplexity": perplexity,
                "tokens_seen": journal.tokens,
                "steps": self.scale.steps,
                "precision": precision,
                "trained": module.trained,
            }
            finish(loggers, {"held_out_perplexity": perplexity["last"]}, record=own)
        finally:
            close()
        model.requires_grad_(True)
        save_model(folder.path / "model", model, tokenizer, self._card(folder, perplexity))
        return own

    def _names(self) -> dict[str, str]:
        return {"teacher": self.teacher.name, "corpus": self.corpus.name, "scale": self.scale.name}

    def _card(self, folder: RunFolder, perplexity: dict[str, float]) -> str:
        return f"""---
library_name: transformers
tags: [minilm-lab, masked-language-modelling]
---
# {folder.name}

{self.teacher.name} with a masked-LM head trained by minilm-lab on a frozen body ({self.scale.steps} steps of
{self.scale.batch_size} x {self.scale.length} tokens of {self.corpus.name}): the body is the teacher's to the bit.

Perplexity of masked tokens of held-out text: {perplexity["first"]:,.0f} before, {perplexity["last"]:,.1f} after.
"""
