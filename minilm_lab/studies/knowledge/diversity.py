"""How different texts are from one another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MOST_FOR_BLEU = 100
"""Self-BLEU compares each text with all others."""


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Different n-grams of words over all of them, in all texts together (Li et al. 2016); 0 without any."""
    grams = [
        tuple(words[i : i + n])
        for words in (t.lower().split() for t in texts)
        for i in range(len(words) - n + 1)
    ]
    return len(set(grams)) / len(grams) if grams else 0.0


def self_bleu(texts: Sequence[str]) -> float:
    """Mean BLEU-4 of each text against all others (Zhu et al. 2018), 0 to 100; high = alike."""
    import sacrebleu

    some = list(texts)[:MOST_FOR_BLEU]
    if len(some) < 2:
        return 0.0
    scores = [sacrebleu.sentence_bleu(text, [*some[:i], *some[i + 1 :]]).score for i, text in enumerate(some)]
    return sum(scores) / len(scores)


def vendi(vectors: Tensor) -> float:
    """Vendi score (Friedman and Dieng 2023) of (n, d): as how many wholly different texts; 1 to n."""
    unit = torch.nn.functional.normalize(vectors.double(), dim=1)
    values = torch.linalg.eigvalsh(unit @ unit.T / len(unit)).clamp(min=0)
    return float(torch.exp(-(values * values.clamp(min=1e-300).log()).sum()))


def mean_cosine(vectors: Tensor) -> float:
    """Of all pairs of different rows of (n, d); 0 for one row."""
    if len(vectors) < 2:
        return 0.0
    unit = torch.nn.functional.normalize(vectors.double(), dim=1)
    cosines = unit @ unit.T
    return float((cosines.sum() - cosines.diagonal().sum()) / (len(unit) * (len(unit) - 1)))
