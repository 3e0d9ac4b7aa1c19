"""The batches of a corpus as a training run takes them: from any step on, and the held-out ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from transformers import PreTrainedTokenizerBase

from minilm_lab.data import Blocks, build, held_out_batches, loader
from minilm_lab.data.masking import Masking
from minilm_lab.runs.folder import RunFolder
from minilm_lab.training.callbacks import HeldOut, Journal
from minilm_lab.training.fit import fit, micro_batch
from minilm_lab.training.settings import How, Scale


@dataclass(frozen=True)
class Stream:
    """Blocks of a tokenised corpus, and how they are shared out."""

    blocks: Blocks
    scale: Scale
    seed: int
    how: How
    masking: Masking | None
    """Of masked language modelling; None = the text as it is."""

    @property
    def micro(self) -> int:
        """Samples a device sees at a time."""
        return micro_batch(self.scale.batch_size, self.how.trainer, "scale.batch_size")

    def batches(self, step: int, rank: int, world: int) -> Any:
        """Endless micro-batches from optimizer step `step` on, of one rank of `world`."""
        return loader(
            self.blocks,
            seed=self.seed,
            batch_size=self.micro,
            first_sample=step * self.scale.batch_size,
            rank=rank,
            world_size=world,
            workers=self.how.impl.workers,
            pin_memory=torch.cuda.is_available(),
            masking=self.masking,
        )

    def held_out(self) -> Iterator[Any]:
        """The blocks that are never trained on, `trainer.held_out_blocks` at most."""
        return held_out_batches(self.blocks, self.micro, self.how.trainer.held_out_blocks, self.masking)


def train_on(
    module: pl.LightningModule,
    stream: Stream,
    folder: RunFolder,
    journal: Journal,
    loggers: Sequence[Any],
    callbacks: Sequence[pl.Callback] = (),
) -> HeldOut:
    """Train `module` on the stream to the steps of its scale, in the run's folder; returns the held-out losses."""
    settings, steps = stream.how.trainer, stream.scale.steps
    measure = HeldOut(journal, stream.held_out, settings.held_out_every or max(1, steps // 10))
    fit(
        module,
        stream.batches,
        steps=steps,
        seed=stream.seed,
        title=folder.name,
        folder=folder.path,
        impl=stream.how.impl,
        settings=settings,
        loggers=loggers,
        journal=journal,
        callbacks=[measure, *callbacks],
    )
    return measure


def open_stream(
    corpus: Any,
    tokenizer: PreTrainedTokenizerBase,
    scale: Scale,
    seed: int,
    how: How,
    masking: Masking | None = None,
) -> Stream:
    """Tokenise the corpus (once: the blocks are cached) and return its stream."""
    rules = tokenizer.backend_tokenizer.to_str()
    key = hashlib.blake2b(rules.encode(), digest_size=16).hexdigest()
    blocks = build(corpus, tokenizer, key, length=scale.length, hub=how.paths.hub, cache=how.cache)
    return Stream(blocks, scale, seed, how, masking)
