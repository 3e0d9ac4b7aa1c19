"""The batches of a corpus as a training run takes them: from any step on, and the held-out ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from minilm_lab.data import Blocks, build, held_out_batches, loader
from minilm_lab.data.masking import Masking
from minilm_lab.evaluation.result import Result
from minilm_lab.training.callbacks import Journal
from minilm_lab.training.evaluating import Evaluating, Evaluation
from minilm_lab.training.settings import How, Scale, micro_batch


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
            whole=self.scale.batch_size,
        )

    def texts(self, count: int) -> list[tuple[Tensor, Tensor]]:
        """(ids, mask) of `count` held-out blocks at most, for what is measured before training."""
        batches = held_out_batches(self.blocks, 16, count)
        full = torch.ones(1, 1, dtype=torch.bool)
        return [
            (
                batch["input_ids"],
                full.expand_as(batch["input_ids"]) if batch["mask"] is None else batch["mask"],
            )
            for batch in batches
        ]

    def held_out(self, journal: Journal) -> Evaluating:
        """Measures the mean loss of the blocks that are never trained on, `trainer.held_out_blocks` at most."""
        settings = self.how.trainer

        def part(module: Any, rank: int, world: int) -> tuple[float, int]:
            total, count = 0.0, 0
            batches = held_out_batches(self.blocks, self.micro, settings.held_out_blocks, self.masking)
            for batch in islice(batches, rank, None, world):
                moved = module.trainer.strategy.batch_to_device(batch, module.device)
                size = len(batch["input_ids"])
                total += float(module.losses(moved)["loss"]) * size
                count += size
            return total, count

        def whole(parts: list[tuple[float, int]]) -> Result:
            total, count = (sum(numbers) for numbers in zip(*parts, strict=True))
            return Result({"held_out_loss": total / max(count, 1)})

        every = settings.held_out_every or max(1, self.scale.steps // 10)
        return Evaluating(journal, {"held_out_loss": Evaluation(part, whole)}, every)


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
