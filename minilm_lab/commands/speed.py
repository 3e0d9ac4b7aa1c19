"""The speed run of a table: forward time of each row's model against the teacher's, in one process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModel

from minilm_lab.models.speed import BATCH, LENGTH, ROUNDS, forward_seconds
from minilm_lab.runs.environment import hardware
from minilm_lab.runs.folder import RunFolder, execute
from minilm_lab.runs.identity import identity_of, slug
from minilm_lab.training.fit import uses_gpu
from minilm_lab.training.settings import How


def measure(
    name: str, teacher: str, sources: Mapping[str, str], keys: Mapping[str, Any], how: How
) -> RunFolder:
    """Time the models of a table's rows once on this hardware.

    sources: row -> folder or hub id; keys: row -> what identifies its model; teacher: the row that counts as 1.
    """
    what = {"rows": dict(keys), "teacher": teacher, "hardware": hardware(), "shape": [BATCH, LENGTH]}
    folder = RunFolder(how.runs, "speed", slug(name), identity_of("speed", what))

    def work(_: RunFolder) -> dict[str, Any]:
        device = torch.device("cuda" if uses_gpu(how.trainer.accelerator) else "cpu")
        if how.impl.threads is not None:
            torch.set_num_threads(how.impl.threads)
        # Rows with one shape take one time: measure each shape once.
        models: dict[str, Any] = {}
        row_shape: dict[str, str] = {}
        for row, source in sources.items():
            model = AutoModel.from_pretrained(source, dtype=torch.float32)
            shape = f"{model.config.num_hidden_layers}x{model.config.hidden_size}x{model.config.intermediate_size}"
            row_shape[row] = shape
            models.setdefault(shape, model)
        seconds = forward_seconds(models, device)
        per_row = {row: seconds[shape] for row, shape in row_shape.items()}
        return {
            "seconds": per_row,
            "ratio": {row: per_row[teacher] / value for row, value in per_row.items()},
            "note": f"median of {ROUNDS} float32 forwards of {BATCH} x {LENGTH} tokens on {device.type}",
        }

    execute(folder, what, how.plain(), work)
    return folder
