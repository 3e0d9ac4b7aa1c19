"""Time the forward of several forms of one model, in turns, so that a busy machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

import numpy as np
import torch

from minilm_lab.exporting.embedding import Forward

BATCH, LENGTH, ROUNDS = 32, 64, 15


def forward_seconds(forwards: Mapping[str, Forward], vocabulary: int, longest: int) -> dict[str, float]:
    """Return the median seconds of a forward of BATCH x LENGTH tokens, all real, for each form.

    Torch runs on one thread; the caller has made the ONNX sessions with one. The first round is not counted.
    """
    shape = (BATCH, min(LENGTH, longest))
    random = np.random.default_rng(0)
    mask = np.ones(shape, dtype=np.int64)
    times: dict[str, list[float]] = {name: [] for name in forwards}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for turn in range(ROUNDS + 1):
            ids = random.integers(0, vocabulary, shape)
            batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            for name, forward in forwards.items():
                began = time.perf_counter()
                forward(batch)
                if turn:
                    times[name].append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return {name: statistics.median(values) for name, values in times.items()}
