"""The forward times of a table's rows: its column of speed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

BATCH, LENGTH, ROUNDS = 32, 128, 12


def time_rows(models: Mapping[str, str], teacher: str, device: torch.device) -> dict[str, Any]:
    """Time the models of a table's rows; rows of one shape are measured once.

    Args:
        models: row -> folder or hub id.
        teacher: the row that counts as 1.

    Returns plain data: `seconds` and `ratio` (the teacher's seconds / the row's) by row, and `note` for captions.
    """
    from minilm_lab.models import sources
    from minilm_lab.models.families import ffn_of

    shapes: dict[str, PreTrainedModel] = {}
    shape_of_row: dict[str, str] = {}
    for row, where in models.items():
        config = sources.load_config(where, None, row)
        shape = f"{config.model_type} {config.num_hidden_layers}x{config.hidden_size}x{ffn_of(config)}"
        shape_of_row[row] = shape
        if shape not in shapes:
            shapes[shape] = sources.load_body(where, None, row)
    taken = forward_seconds(shapes, device)
    seconds = {row: taken[shape] for row, shape in shape_of_row.items()}
    return {
        "seconds": seconds,
        "ratio": {row: seconds[teacher] / value for row, value in seconds.items()},
        "note": f"median of {ROUNDS} float32 forwards of {BATCH} x {LENGTH} tokens on {device.type}",
    }


def forward_seconds(models: Mapping[str, PreTrainedModel], device: torch.device) -> dict[str, float]:
    """Return the median seconds of a float32 forward of BATCH x LENGTH tokens for each model.

    Where a model has fewer positions than LENGTH, all are timed at that length. The first round warms up and is
    not counted (MiniLM, arXiv 2002.10957, table 4, times 100 batches on a GPU).
    """
    import torch

    from minilm_lab.exporting.forwards import in_turns
    from minilm_lab.models.families import positions_of

    length = min(LENGTH, *(positions_of(model.config) for model in models.values()))
    generator = torch.Generator().manual_seed(0)

    def forward(model: PreTrainedModel, _: int) -> None:
        ids = torch.randint(5, model.config.vocab_size, (BATCH, length), generator=generator).to(device)
        with torch.no_grad():
            model(input_ids=ids)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    works = {key: partial(forward, model.eval().to(device)) for key, model in models.items()}
    return {key: statistics.median(taken) for key, taken in in_turns(works, ROUNDS, title="speed").items()}
