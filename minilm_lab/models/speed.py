"""Time a forward pass of several models, interleaved, so that a busy machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from minilm_lab.models.families import positions_of

BATCH, LENGTH, ROUNDS = 32, 128, 12


@torch.no_grad()
def forward_seconds(models: Mapping[str, PreTrainedModel], device: torch.device) -> dict[str, float]:
    """Return the median seconds of a float32 forward of BATCH x LENGTH tokens for each model.

    Where a model has fewer positions than LENGTH, all are timed at that length. The first round warms up and is
    not counted (MiniLM, arXiv 2002.10957, table 4, times 100 batches on a GPU).
    """
    length = min(LENGTH, *(positions_of(model.config) for model in models.values()))
    generator = torch.Generator().manual_seed(0)
    times: dict[str, list[float]] = {key: [] for key in models}
    for model in models.values():
        model.eval().to(device)
    for turn in tqdm(range(ROUNDS + 1), desc="speed", unit="round"):
        for key, model in models.items():
            ids = torch.randint(5, model.config.vocab_size, (BATCH, length), generator=generator).to(device)
            began = time.perf_counter()
            model(input_ids=ids)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:
                times[key].append(time.perf_counter() - began)
    return {key: statistics.median(values) for key, values in times.items()}
