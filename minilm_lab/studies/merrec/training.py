"""Training of a sequence model on the sessions before the cut, and its scores of every item."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minilm_lab.errors import LabError
from minilm_lab.studies.merrec.log import Cut, Log
from minilm_lab.studies.merrec.sequences import Items, Sequence, loss

log = logging.getLogger(__name__)
HIDDEN = 0.3
"""Share of a session's items that bert4rec is to foretell."""


@dataclass(frozen=True)
class Training:
    """How a sequence model is trained."""

    model: str = "sasrec"
    width: int = 64
    blocks: int = 2
    heads: int = 2
    dropout: float = 0.1
    length: int = 20
    epochs: int = 5
    batch: int = 128
    lr: float = 2e-3
    negatives: int = 512
    causal: bool = True

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "heads", "length", "batch", "negatives"):
            if getattr(self, name) < 1:
                raise LabError(f"{name}={getattr(self, name)} must be at least 1.")


def windows(data: Log, parts: Cut, length: int) -> NDArray[np.int64]:
    """(windows, length + 1) items of training sessions, the last at the end, −1 in front; long sessions give several."""
    items, rows = data.item[parts.train], []
    for begin, end in zip(parts.bounds[:-1], parts.bounds[1:], strict=True):
        for stop in range(end, begin + 1, -length):
            piece = items[max(begin, stop - length - 1) : stop]
            rows.append(np.r_[np.full(length + 1 - len(piece), -1), piece])
    return np.asarray(rows, dtype=np.int64)


def train(data: Log, parts: Cut, titles: Tensor | None, ids: bool, settings: Training, seed: int) -> Sequence:
    """A trained model in eval mode; a function of its arguments. The caller's random numbers are left alone.

    titles: (titles, width) vectors, None = ids alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        title_of = torch.from_numpy(data.title_of)
        if titles is not None:
            titles = scaled(titles)
        items = Items(len(title_of), settings.width, titles, None if titles is None else title_of, ids)
        items.known = torch.from_numpy(parts.known)
        model = Sequence(
            items,
            settings.model,
            length=settings.length,
            blocks=settings.blocks,
            heads=settings.heads,
            dropout=settings.dropout,
            causal=settings.causal,
        )
        rows = torch.from_numpy(windows(data, parts, settings.length))
        pool = torch.from_numpy(np.flatnonzero(parts.known))
        optimiser = torch.optim.Adam(model.parameters(), lr=settings.lr)
        model.train()
        sizes = (rows >= 0).sum(dim=1)
        for epoch in range(settings.epochs):
            total, batches = 0.0, by_length(sizes, settings.batch)
            for numbers in batches:
                batch = rows[numbers]
                if settings.model != "gru4rec":  # its state would begin elsewhere than in use
                    batch = batch[:, -max(2, int(sizes[numbers].max())) :]
                value = step_loss(model, batch, pool, settings.negatives)
                optimiser.zero_grad()
                value.backward()
                optimiser.step()
                total += float(value.detach())
            log.info("merrec: %s epoch %d, loss %.3f", settings.model, epoch + 1, total / len(batches))
        return model.eval()


def by_length(sizes: Tensor, batch: int) -> list[Tensor]:
    """Numbers of rows in batches of similar length, drawn anew each time: most sessions are short, and empty places cost.

    Sorted within stretches of 16 batches, so that who stands together is drawn too.
    """
    pieces: list[Tensor] = []
    for stretch in torch.randperm(len(sizes)).split(16 * batch):
        pieces += stretch[sizes[stretch].argsort(stable=True)].split(batch)
    return [pieces[number] for number in torch.randperm(len(pieces)).tolist()]


def scaled(titles: Tensor) -> Tensor:
    """(titles, width) less their mean, of variance 1 on average: what all titles have in common tells none from another."""
    centred = titles - titles.mean(dim=0)
    return centred / centred.std().clamp(min=1e-6)


def step_loss(model: Sequence, batch: Tensor, pool: Tensor, negatives: int) -> Tensor:
    """The loss of a batch of `windows`, with negatives drawn evenly from `pool`, or all of it where it is no larger."""
    if negatives >= len(pool):
        drawn, times = pool, torch.zeros(len(pool))
    else:
        drawn = pool[torch.randint(len(pool), (negatives,))]
        times = torch.full((negatives,), math.log(negatives / len(pool)))
    if model.model == "bert4rec":
        hidden = (torch.rand(batch.shape) < HIDDEN) & (batch >= 0)
        hidden[:, -1] |= torch.rand(len(batch)) < 0.5  # as in use, where the last place is the hidden one
        shown, place = batch[:, 1:], hidden[:, 1:]
        out, target = model(shown, place), shown
        wanted = place
    else:
        out, target = model(batch[:, :-1]), batch[:, 1:]
        wanted = (target >= 0) & (batch[:, :-1] >= 0)
    if not wanted.any():
        return out.sum() * 0
    return loss(out[wanted], target[wanted], model.items, drawn, times)


@torch.no_grad()
def states(model: Sequence, history: NDArray[np.int64], blocks: list[int] | None = None) -> Tensor:
    """(examples, width) what the next item should be like."""
    rows = torch.from_numpy(history)
    return torch.cat([model.next(part, blocks) for part in rows.split(1024)])
