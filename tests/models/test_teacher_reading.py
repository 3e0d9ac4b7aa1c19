"""How a teacher is read: precision, rotary positions, groups, code of its own; and what of it is identity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from minilm_lab.errors import LabError

from .helpers import saved, teacher


def test_bfloat16_is_loaded_as_float32(tmp_path: Path) -> None:
    path = saved(tmp_path / "t", "llama")
    AutoModel.from_pretrained(path).bfloat16().save_pretrained(path)
    assert load_file(path / "model.safetensors")["norm.weight"].dtype == torch.bfloat16
    assert {p.dtype for p in teacher(path).body(tmp_path).parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"rotary": "during"}, r"teacher\.rotary=during: allowed are before, after"),
        ({"grouped": "mean"}, r"teacher\.grouped=mean: allowed are repeat, group"),
    ],
)
def test_impossible_readings(settings: dict[str, str], message: str, folder: Path) -> None:
    with pytest.raises(LabError, match=message):
        teacher(folder, **settings)


def test_rotary_positions_that_are_not_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"teacher\.rotary=after: .*'bert' model; use teacher\.rotary=before"):
        teacher(folder, rotary="after").config(tmp_path)


def test_identity_tells_only_what_changes_a_result(folder: Path, tmp_path: Path) -> None:
    usual = teacher(folder).identity(tmp_path)
    assert set(usual) == {"folder", "layer"}
    assert teacher(folder, grouped="group").identity(tmp_path) == usual  # every head has its own key here
    assert teacher(folder, trust_remote_code=True).identity(tmp_path) == {**usual, "trust_remote_code": True}
    llama = saved(tmp_path / "llama", "llama")
    usual = teacher(llama).identity(tmp_path)
    assert set(usual) == {"folder", "layer"}
    assert teacher(llama, grouped="group").identity(tmp_path) == {**usual, "grouped": "group"}
    assert teacher(llama, rotary="after").identity(tmp_path) == {**usual, "rotary": "after"}


CODE = """
from transformers import BertConfig

print("CODE OF THE MODEL RUNS")

class OwnConfig(BertConfig):
    model_type = "bert"
"""


@pytest.mark.parametrize("trusted", [False, True])
def test_code_of_a_model_runs_only_when_told_to(
    trusted: bool, broken: Path, tmp_path: Path, monkeypatch, capfd
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoConfig": "own.OwnConfig"}}))
    (broken / "own.py").write_text(CODE)
    found = teacher(broken, trust_remote_code=trusted).config(tmp_path)
    assert (type(found).__name__ == "OwnConfig") == trusted
    assert ("CODE OF THE MODEL RUNS" in capfd.readouterr().out) == trusted
