"""Ranks of one target an example in a catalogue of any size: counted block by block, exact, nothing is sampled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minilm_lab.errors import LabError
from minilm_lab.studies.recommendation.ranking import interval

Floats = NDArray[np.float64]
Score = Callable[[slice, slice], Tensor]
"""(examples, items) → (examples, items) scores of these."""


def mid_rank(score: Score, target: Tensor, items: int, *, examples: int = 512, block: int = 65_536) -> Floats:
    """(examples,) rank of each target from 1: 1 + #{higher} + ½ #{others that are equal}.

    A target's score is read out of its block, so that equal items tie whatever the order of a sum.

    LabError: a catalogue of one item, scores that are no numbers, a target that is none of the items.
    """
    if items < 2:
        raise LabError("A catalogue of one item, or none, cannot be ranked: give two or more.")
    if int(target.min()) < 0 or int(target.max()) >= items:
        raise LabError(
            f"{int(((target < 0) | (target >= items)).sum())} targets are none of the {items} items."
        )
    ranks = torch.empty(len(target), dtype=torch.float64)
    for start in range(0, len(target), examples):
        rows = slice(start, min(start + examples, len(target)))
        wanted = target[rows]
        own = torch.empty(len(wanted))
        last: Tensor | None = None  # a catalogue of one block is scored once
        for low in range(0, items, block):
            inside = (wanted >= low) & (wanted < low + block)
            if inside.any():
                last = score(rows, slice(low, min(low + block, items))).float()
                own[inside] = last[inside.nonzero()[:, 0], wanted[inside] - low]
        higher = torch.zeros(len(wanted), dtype=torch.float64)
        for low in range(0, items, block):
            single = last is not None and items <= block
            scores = last if single else score(rows, slice(low, min(low + block, items))).float()
            assert scores is not None
            if not torch.isfinite(scores).all():
                raise LabError(
                    f"{int((~torch.isfinite(scores)).sum())} scores are not finite: they have no rank."
                )
            higher += (scores > own[:, None]).sum(dim=1) + 0.5 * (scores == own[:, None]).sum(dim=1)
        ranks[rows] = higher + 0.5  # the target itself is one of the equal ones
    return ranks.numpy()


def hits(ranks: Floats, user: NDArray[np.int64], *, cut: int = 20, seed: int = 0) -> dict[str, float]:
    """ranks: (examples,), or (seeds, examples), whose gains are averaged. Recall and NDCG at `cut` and MRR of one target an example, in percent: ``recall``, ``recall_low``, ``recall_high``, …

    A mean over users of their means, so that who does much does not stand for all; 95 % by a bootstrap over users.
    """
    people, place = np.unique(user, return_inverse=True)
    counts = np.bincount(place)
    gains = {
        "recall": (ranks <= cut).astype(np.float64),
        "ndcg": np.where(ranks <= cut, 1 / np.log2(1 + ranks), 0.0),
        "mrr": 1 / ranks,
    }
    scores: dict[str, float] = {}
    for name, values in gains.items():
        mean = values.mean(axis=0) if values.ndim > 1 else values
        of_user = np.bincount(place, weights=mean) / counts
        scores[name] = 100 * float(of_user.mean())
        if len(people) > 1:
            low, high = interval(of_user, seed=seed)
            scores |= {f"{name}_low": 100 * low, f"{name}_high": 100 * high}
    return scores
