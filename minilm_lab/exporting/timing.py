"""Time several forwards in turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from tqdm import tqdm

from minilm_lab.exporting.embedding import Forward

BATCH, LENGTH, ROUNDS = 32, 64, 15

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


def forward_seconds(forwards: Mapping[str, Forward], vocabulary: int, longest: int) -> dict[str, float]:
    """Return the median seconds of a forward of BATCH x LENGTH tokens, all real, for each form.

    Torch runs on one thread; the caller has made the ONNX sessions with one. The first round is not counted.
    """
    shape = (BATCH, min(LENGTH, longest))
    random = np.random.default_rng(0)
    mask = np.ones(shape, dtype=np.int64)
    tokens = [random.integers(0, vocabulary, shape) for _ in range(ROUNDS + 1)]

    def run(forward: Forward, turn: int) -> None:
        ids = tokens[turn]
        forward({"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = in_turns({name: partial(run, forward) for name, forward in forwards.items()}, ROUNDS)
    finally:
        torch.set_num_threads(threads)
    return {name: statistics.median(taken) for name, taken in seconds.items()}
