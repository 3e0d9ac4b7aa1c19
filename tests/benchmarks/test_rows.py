"""The speed column of a table: any family, each shape once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from models.helpers import body_of, saved
from transformers import PreTrainedModel

from minilm_lab.benchmarks import rows

CPU = torch.device("cpu")


@pytest.mark.parametrize("family", ["distilbert", "gpt2", "mpnet", "llama"])
def test_a_teacher_of_any_family(family: str, tmp_path: Path) -> None:
    """DistilBERT and GPT-2 call the width of their feed-forward block by names of their own."""
    models = {"teacher": str(saved(tmp_path / "a", family)), "student": str(saved(tmp_path / "b", "bert"))}
    timed = rows.time_rows(models, "teacher", CPU)
    assert timed["ratio"]["teacher"] == 1
    assert timed["ratio"]["student"] == timed["seconds"]["teacher"] / timed["seconds"]["student"] > 0


def test_rows_of_one_shape_share_one_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {
        "teacher": saved(tmp_path / "a"),
        "again": saved(tmp_path / "b"),
        "thin": saved(tmp_path / "c", intermediate_size=8),
        "roberta": saved(tmp_path / "d", "roberta"),
    }
    seconds = iter([4.0, 2.0, 1.0])

    def taken(models: Mapping[str, PreTrainedModel], _: torch.device) -> dict[str, float]:
        return {shape: next(seconds) for shape in models}

    monkeypatch.setattr(rows, "forward_seconds", taken)
    timed = rows.time_rows({row: str(folder) for row, folder in folders.items()}, "teacher", CPU)
    assert timed["seconds"] == {"teacher": 4, "again": 4, "thin": 2, "roberta": 1}
    assert timed["ratio"] == {"teacher": 1, "again": 1, "thin": 2, "roberta": 4}


def test_models_with_few_positions() -> None:
    bodies = {
        "small": body_of("bert", num_hidden_layers=1),
        "short": body_of("roberta", num_hidden_layers=1, max_position_embeddings=20),
    }
    seconds = rows.forward_seconds(bodies, CPU)
    assert set(seconds) == set(bodies) and all(0 < s < 5 for s in seconds.values())
