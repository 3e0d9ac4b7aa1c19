"""The batches of a corpus as a training run takes them: from any step on, and the held-out ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from minilm_lab.corpora import Blocks, build, held_out_batches, loader
from minilm_lab.corpora.masking import Masking
from minilm_lab.training.fit import micro_batch
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
