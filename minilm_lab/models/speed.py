"""Time a forward pass of several models, interleaved, so that a busy machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from minilm_lab.models.families import positions_of

BATCH, LENGTH, ROUNDS = 32, 128, 12

_Key = TypeVar("_Key")


def in_turns(
    works: Mapping[_Key, Callable[[int], object]], rounds: int, *, warm_up: int = 1, title: str | None = None
) -> dict[_Key, list[float]]:
    """Do every one of `works` once a round; return the seconds of each in each round, so that rounds can be paired.

    A work is called with the number of the round, counted on from the `warm_up` rounds, which are not timed. Who is
    first alternates. title: of the progress bar; None shows none.
    """
    seconds: dict[_Key, list[float]] = {key: [] for key in works}
    bar = tqdm(total=(warm_up + rounds) * len(works), desc=title, unit="forward", disable=title is None)
    with bar:
        for turn in range(warm_up + rounds):
            for key in list(works) if turn % 2 == 0 else reversed(list(works)):
                began = time.perf_counter()
                works[key](turn)
                if turn >= warm_up:
                    seconds[key].append(time.perf_counter() - began)
                bar.update()
    return seconds


@torch.no_grad()
def forward_seconds(models: Mapping[str, PreTrainedModel], device: torch.device) -> dict[str, float]:
    """Return the median seconds of a float32 forward of BATCH x LENGTH tokens for each model.

    Where a model has fewer positions than LENGTH, all are timed at that length. The first round warms up and is
    not counted (MiniLM, arXiv 2002.10957, table 4, times 100 batches on a GPU).
    """
    length = min(LENGTH, *(positions_of(model.config) for model in models.values()))
    generator = torch.Generator().manual_seed(0)

    def forward(model: PreTrainedModel, _: int) -> None:
        ids = torch.randint(5, model.config.vocab_size, (BATCH, length), generator=generator).to(device)
        model(input_ids=ids)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    works = {key: partial(forward, model.eval().to(device)) for key, model in models.items()}
    return {key: statistics.median(taken) for key, taken in in_turns(works, ROUNDS, title="speed").items()}
