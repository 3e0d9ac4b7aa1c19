"""Decode step by step: the source is read once, and each step reads one token and one [MASK] a hypothesis.

The hypotheses of an example share one cache of keys and values. A hypothesis sees the source and those target tokens
that are its own history, through the mask; so choosing other hypotheses moves no keys or values, and the source's,
which are most, are there once and not once a hypothesis.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from minilm_lab.tasks.generation.cache import KeysAndValues, own_entries
from minilm_lab.tasks.generation.model import Symbols, hidden_of, logits_of


class CachedDecoder:
    """Log-probabilities of the next token of each hypothesis; what `beam.search` calls."""

    def __init__(
        self,
        model: PreTrainedModel,
        symbols: Symbols,
        source: Tensor,
        real: Tensor,
        *,
        beams: int,
        length: int,
    ) -> None:
        """source: int64 (batch, tokens), padded on the right; real: bool, the same shape.

        beams: hypotheses of an example, at most; length: tokens of a hypothesis, at most.
        """
        self.model, self.symbols, self.real = model, symbols, real
        self.lengths = real.sum(dim=1, keepdim=True)
        batch, tokens = source.shape
        self.cache = KeysAndValues(tokens + beams * (length + 1))
        self.made = 0
        """Target tokens of a hypothesis so far, and which entries of the cache behind the source are its own."""
        self.seen = real.new_zeros(batch, 1, 0)
        places = torch.arange(tokens, device=source.device).expand(batch, tokens)
        visible = real[:, None, None, :].expand(batch, 1, tokens, tokens)
        hidden_of(model, source, places, torch.zeros_like(source), visible, self.cache)
        self.cache.keep(tokens)

    def __call__(self, parents: Tensor | None, tokens: Tensor | None) -> Tensor:
        """Log-probabilities float32 (batch, beams, vocabulary) of the next token.

        parents: int64 (batch, beams), the hypothesis of the call before that each one continues; tokens: the token
        it continues with, the same shape. None, None: the first token.
        """
        if parents is None or tokens is None:
            accepted = self.real.new_zeros(len(self.real), 0).long()
            beams = 1
        else:
            self.made += 1
            self.seen = own_entries(parents, self.seen)
            accepted, beams = tokens, tokens.shape[1]
        batch = len(self.real)
        masks = accepted.new_full((batch, beams), self.symbols.mask)
        input_ids = torch.cat([accepted, masks], dim=1)
        places = torch.cat(
            [
                (self.lengths + self.made - 1).expand(accepted.shape),
                (self.lengths + self.made).expand(masks.shape),
            ],
            dim=1,
        )
        hidden = hidden_of(
            self.model,
            input_ids,
            places,
            torch.ones_like(input_ids),
            self._visible(accepted.shape[1], beams),
            self.cache,
        )
        self.cache.keep(accepted.shape[1])  # the masks' keys are forgotten
        scores = logits_of(self.model, hidden[:, accepted.shape[1] :])
        scores[..., list(self.symbols.never)] = -torch.inf
        return scores.log_softmax(dim=-1)

    def _visible(self, accepted: int, beams: int) -> Tensor:
        """bool (batch, 1, accepted + beams, keys); keys: source, cached and new tokens, the step's masks."""
        batch = len(self.real)
        history = torch.cat([self.real[:, None].expand(batch, beams, -1), self.seen], dim=2)
        itself = torch.eye(beams, dtype=torch.bool, device=history.device).expand(batch, beams, beams)
        by_mask = torch.cat([history, itself], dim=2)
        by_token = torch.cat([history, torch.zeros_like(itself)], dim=2)[:, :accepted]
        return torch.cat([by_token, by_mask], dim=1).unsqueeze(1)
