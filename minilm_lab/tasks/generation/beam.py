"""Beam search as in UniLM's decoder (s2s-ft of github.com/microsoft/unilm), with the length penalty of GNMT.

Each step continues the live hypotheses with their best tokens and keeps the `beams` best of all; those that end leave
the beam. A hypothesis Y of log-probability s is worth s / ((5 + |Y|) / 6)^a (Wu et al. 2016, eq. 14, without the
coverage term), where |Y| counts the end token; a = 0: plain log-probability. Hypotheses that are cut at the greatest
length take part. The search stops as soon as no live hypothesis can become better than the best finished one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor | None, Tensor | None], Tensor]
"""(parents, tokens) -> log-probabilities of the next token, (batch, beams, vocabulary); see decoding.CachedDecoder."""


def search(
    step: Step, *, end: int, beams: int, length: int, length_penalty: float = 0.0, no_repeat: int = 0
) -> list[list[int]]:
    """The best hypothesis of each example, without its end token.

    end: id of the token that ends a hypothesis; length: most tokens of a hypothesis, the end token included;
    length_penalty: `a` above, 0 or more; no_repeat: no n-gram of this many tokens comes twice, 0 = any may.
    """
    log_probabilities = step(None, None)
    batch, _, vocabulary = log_probabilities.shape
    device = log_probabilities.device
    scores = log_probabilities.new_zeros(batch, 1)  # −inf: not a live hypothesis
    tokens = torch.zeros(batch, 1, 0, dtype=torch.long, device=device)
    best = scores.new_full((batch,), -torch.inf)
    winners = torch.full((batch, length), end, device=device)
    for made in range(1, length + 1):
        if no_repeat:
            log_probabilities = log_probabilities.masked_fill(
                repeated(tokens, no_repeat, vocabulary), -torch.inf
            )
        candidates = (scores[:, :, None] + log_probabilities).flatten(1)
        scores, chosen = candidates.topk(min(beams, candidates.shape[1]), dim=1)
        parents, new = chosen // vocabulary, chosen % vocabulary
        tokens = torch.cat([_take(tokens, parents), new[:, :, None]], dim=2)
        finished = (new == end) | (made == length)
        worth = (scores / penalty(made, length_penalty)).masked_fill(~finished, -torch.inf)
        value, which = worth.max(dim=1)
        better = value > best
        best = torch.where(better, value, best)
        winners[better] = end
        winners[better, :made] = _take(tokens, which[:, None])[better, 0]
        scores = scores.masked_fill(finished, -torch.inf)
        # Log-probabilities only fall, and the longest hypothesis is divided by most.
        reachable = scores.max(dim=1).values / penalty(length, length_penalty)
        if bool((reachable <= best).all()):
            break
        log_probabilities = step(parents, new)
    return [row[: row.index(end)] if end in row else row for row in winners.tolist()]


def penalty(length: int, exponent: float) -> float:
    """What the log-probability of a hypothesis of `length` tokens is divided by."""
    return float(((5 + length) / 6) ** exponent)


def repeated(tokens: Tensor, size: int, vocabulary: int) -> Tensor:
    """Which next tokens would make an n-gram of `size` tokens that a hypothesis already has.

    tokens: int64 (batch, beams, made). Returns bool (batch, beams, vocabulary).
    """
    batch, beams, made = tokens.shape
    counts = torch.zeros(batch, beams, vocabulary, device=tokens.device)
    if made >= size:
        grams = tokens.unfold(2, size, 1)  # (batch, beams, n-grams, size)
        tail = tokens[:, :, made - size + 1 :]
        same = (grams[..., : size - 1] == tail[:, :, None]).all(dim=-1)
        counts.scatter_add_(2, grams[..., size - 1], same.to(counts.dtype))
    return counts > 0


def _take(tokens: Tensor, rows: Tensor) -> Tensor:
    return tokens.gather(1, rows[:, :, None].expand(*rows.shape, tokens.shape[2]))
