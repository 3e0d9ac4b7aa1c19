"""What is to be beaten: popularity, the session's last item again, and untrained nearness of titles."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minilm_lab.studies.merrec.log import Cut, Examples, Log
from minilm_lab.studies.recommendation.blocks import Score


def popularity(data: Log, parts: Cut) -> Tensor:
    """(items,) events before the cut."""
    early = data.item[data.time < parts.start]
    return torch.from_numpy(np.bincount(early, minlength=len(parts.known)).astype(np.float32))


def same_list(values: Tensor) -> Score:
    """The same list for everybody."""
    return lambda rows, items: values[items].expand(rows.stop - rows.start, -1)


def again(values: Tensor, judged: Examples) -> Score:
    """The last item first, behind it the same list for everybody."""
    last = torch.from_numpy(judged.history[:, -1])
    top = float(values.max()) + 1

    def score(rows: slice, items: slice) -> Tensor:
        scores = values[items].repeat(rows.stop - rows.start, 1)
        mine = last[rows]
        inside = ((mine >= items.start) & (mine < items.stop)).nonzero()[:, 0]
        scores[inside, mine[inside] - items.start] = top
        return scores

    return score


def nearness(titles: Tensor, title_of: NDArray[np.int64], judged: Examples) -> Score:
    """Cosine of an item's title and the mean of the session's, both less the mean of all titles. Nothing is trained."""
    unit = torch.nn.functional.normalize(titles.float() - titles.float().mean(dim=0), dim=-1)
    numbers = torch.from_numpy(title_of)
    history = torch.from_numpy(judged.history)
    there = (history >= 0).unsqueeze(-1)
    profile = torch.cat(
        [
            (unit[numbers[part.clamp(min=0)]] * here).sum(dim=1)
            for part, here in zip(history.split(1024), there.split(1024), strict=True)
        ]
    )
    return lambda rows, items: profile[rows] @ unit[numbers[items]].T
