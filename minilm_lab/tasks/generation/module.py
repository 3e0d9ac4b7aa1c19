"""An encoder as a sequence-to-sequence model."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minilm_lab.data.loading import Batch
from minilm_lab.tasks.base import Backbone
from minilm_lab.tasks.features import IGNORED
from minilm_lab.tasks.generation import beam
from minilm_lab.tasks.generation import model as models
from minilm_lab.tasks.generation.check import check
from minilm_lab.tasks.generation.decoding import CachedDecoder
from minilm_lab.tasks.generation.model import Symbols
from minilm_lab.tasks.generation.sequence import join
from minilm_lab.tasks.module import ModelModule

CACHED_TOKENS = 16384
"""Tokens whose keys and values decoding holds at a time: for 6 layers of width 384, 0.3 GB."""


class SequenceToSequence(ModelModule):
    """A text from a text: cross-entropy of every target token, and beam search."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        target_length: int,
        label_smoothing: float,
        beams: int,
        length_penalty: float,
        no_repeat: int,
    ) -> None:
        super().__init__(model, tokenizer)
        self.symbols = Symbols.of(tokenizer)
        self.target_length, self.label_smoothing = target_length, label_smoothing
        self.beams, self.length_penalty, self.no_repeat = beams, length_penalty, no_repeat

    @classmethod
    def load(cls, backbone: Backbone, **settings: Any) -> SequenceToSequence:
        """A masked-LM model that passed the check of check.py; LabError for what is no encoder that can generate."""
        Symbols.of(backbone.tokenizer)  # what it lacks is said before the weights are read
        module = cls(models.load(backbone), backbone.tokenizer, **settings)
        check(module.model, module.symbols)
        return module

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy, mean over the target tokens of the batch, end tokens included.

        label_smoothing: this share of the wanted probability is spread evenly over all words (Szegedy et al. 2016,
        as torch does it); s2s-ft leaves out the word itself and padding, a difference of 1 / vocabulary.
        """
        target = batch["labels"] != IGNORED
        joined = join(batch["input_ids"], batch["attention_mask"].bool(), target, self.symbols.mask)
        hidden = models.hidden_of(
            self.model, joined.input_ids, joined.position_ids, joined.segments, joined.visible
        )
        logits = models.logits_of(self.model, hidden[:, joined.tokens :][joined.filled])
        labels = batch["labels"][target]
        return {"cross_entropy": F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)}

    def predict(self, batch: Batch) -> list[np.ndarray]:
        """The token ids of the best hypothesis for each source, int64, without special tokens at its end."""
        real = (batch["attention_mask"] > 0) & (batch["labels"] == IGNORED)
        longest = int(real.sum(dim=1).max())
        size = max(1, CACHED_TOKENS // (longest + self.beams * self.target_length))
        texts: list[np.ndarray] = []
        for start in range(0, len(real), size):
            part = real[start : start + size]
            part = part[:, : int(part.sum(dim=1).max())]
            texts += self._generate(batch["input_ids"][start : start + size, : part.shape[1]], part)
        return texts

    def _generate(self, source: Tensor, real: Tensor) -> list[np.ndarray]:
        decoder = CachedDecoder(
            self.model, self.symbols, source, real, beams=self.beams, length=self.target_length
        )
        hypotheses = beam.search(
            decoder,
            end=self.symbols.end,
            beams=self.beams,
            length=self.target_length,
            length_penalty=self.length_penalty,
            no_repeat=self.no_repeat,
        )
        return [np.asarray(tokens, dtype=np.int64) for tokens in hypotheses]
