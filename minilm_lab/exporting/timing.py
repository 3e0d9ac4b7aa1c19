"""Time the forward of several forms of one model, in turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch

from minilm_lab.exporting.embedding import Forward
from minilm_lab.models.speed import in_turns

BATCH, LENGTH, ROUNDS = 32, 64, 15


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
