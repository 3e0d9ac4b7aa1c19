"""Forms of one model, torch and ONNX files, as functions of the same inputs; and their seconds, taken in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel

#: Inputs by name, int64 (batch, length) -> last hidden states, float32 (batch, length, hidden).
Forward = Callable[[Mapping[str, np.ndarray]], np.ndarray]

BATCH, LENGTH, ROUNDS = 32, 64, 15

_Key = TypeVar("_Key")


def of_torch(body: PreTrainedModel, names: Sequence[str]) -> Forward:
    """The forward of a torch model on the inputs `names`, in eval mode."""
    body.eval()

    def forward(batch: Mapping[str, np.ndarray]) -> np.ndarray:
        inputs = {name: torch.from_numpy(batch[name]) for name in names}
        with torch.inference_mode():
            return np.asarray(body(**inputs).last_hidden_state.float().numpy())

    return forward


def of_onnx(file: Path, names: Sequence[str], threads: int | None = None) -> Forward:
    """The forward of an ONNX file on the CPU. threads: null = torch's number."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def forward(batch: Mapping[str, np.ndarray]) -> np.ndarray:
        (hidden,) = session.run(None, {name: batch[name] for name in names})
        return np.asarray(hidden)

    return forward


def in_turns(
    works: Mapping[_Key, Callable[[int], object]], rounds: int, *, warm_up: int = 1, title: str | None = None
) -> dict[_Key, list[float]]:
    """Do every one of `works` once a round; return the seconds of each in each round, so that rounds can be paired.

    A work is called with the number of the round, counted on from the `warm_up` rounds, which are not timed. Who is
    first alternates, so that a busy machine slows all of them alike. title: of the progress bar; None shows none.
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
