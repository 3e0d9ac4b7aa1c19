"""`minilm-lab speed`: its run, its table, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from minilm_lab.benchmarks import forward
from minilm_lab.benchmarks.forward_table import build
from minilm_lab.commands import speed
from minilm_lab.commands.composing import compose_command
from minilm_lab.errors import LabError
from minilm_lab.reports.renderers import to_markdown


@pytest.fixture
def words(tiny: list[str], tiny_task: Path) -> list[str]:
    kept = [w for w in tiny if w.split(".")[0].split("=")[0] in ("teacher", "impl", "paths", "logger")]
    return [
        *kept,
        "trainer.accelerator=cpu",
        "timing=smoke",
        "timing.length=16",
        "timing.backends=[torch]",
        "task=classification",
        f"task.path={tiny_task}",
    ]


def test_the_command(
    words: list[str], tiny_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = f"timing.models=[teacher,1x48,{tiny_teacher}]"

    def command(*more: str) -> None:
        cfg = compose_command("speed", [*words, models, *more])
        OmegaConf.set_struct(cfg, False)
        cfg.timing.paper["1x48"] = {"embeddings": 9.9, "transformer": 0.1}
        speed.run(cfg)

    command()
    (folder,) = (tmp_path / "runs/speed").iterdir()
    record = json.loads((folder / "result.json").read_text())
    assert list(record["seconds"]) == ["teacher", "1x48", str(tiny_teacher)]
    assert record["ratio"]["teacher"]["torch_cpu"]["median"] == 1.0
    assert record["tokens"] > 3 * 4 * 5
    assert (
        record["threads"] == 1
        and record["hardware"]["cpu"]
        and record["data_note"].startswith("training set")
    )
    table = (folder / "table/table.md").read_text()
    assert "1 × 48" in table and "[9.9 M]" in table
    assert {"table.csv", "table.json", "table.tex", "index.html"} <= {
        p.name for p in (folder / "table").iterdir()
    }

    def again(*_: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(forward, "measure", again)
    command(f"out={tmp_path / 'out'}")
    assert (tmp_path / "out/table.md").read_text() == table
    with pytest.raises(AssertionError, match="measured again"):
        command("timing.models=[teacher,2x48]")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("timing.length=500", "timing.length=500 is beyond the 64 positions"),
        ("timing.models=[./nowhere]", "timing.models: nowhere is not a folder"),
        ("timing.models=[2x50]", "student.heads=4 does not divide student.hidden_size=50"),
    ],
)
def test_the_command_refuses(words: list[str], tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(LabError, match=message):
        speed.run(compose_command("speed", [*words, "timing.models=[teacher]", override]))
    assert not (tmp_path / "runs/speed").exists()


def test_a_table_without_a_gpu_has_dashes_for_what_is_missing() -> None:
    spread = {"median": 0.5, "low": 0.4, "high": 0.6}
    record = {
        "timing": {"name": "x", "models": ["2x48", "1x48"], "backends": ["torch", "onnx"], "batches": 3,
                   "batch_size": 4, "length": 16, "notes": ["The machine was shared."], "paper_source": "a paper",
                   "paper": {"2x48": {"embeddings": 23.4, "speedup": 1.0}, "1x48": {"speedup": 5.3}}},
        "seconds": {"2x48": {"torch_cpu": {"median": 1.0}}, "1x48": {"torch_cpu": spread}},
        "ratio": {"2x48": {"torch_cpu": {"median": 1.0}}, "1x48": {"torch_cpu": {"median": 2.0, "low": 1.5, "high": 2.2}}},
        "missing": {"onnx_cpu": "onnx is needed"},
        "parameters": {name: {"word_embeddings": 23_440_896, "transformer": 85_054_464} for name in ("2x48", "1x48")},
        "hardware": {"cpu": "C", "cores": 2, "gpu": None}, "threads": 1, "commit": "abc", "data_note": "texts",
        "versions": {"torch": "2", "transformers": "5"}, "config": {"versions": {"onnxruntime": None}},
    }  # fmt: skip
    made = build(record)
    text = to_markdown(made)
    line = next(line for line in text.splitlines() if "1 × 48" in line)
    assert [cell.strip() for cell in line.strip("|").split("|")][1:] == [
        "23.4 M", "85.1 M", "500.0", "2.00× [5.30×]", "–", "–",
    ]  # fmt: skip
    for part in (
        "ONNX Runtime CPU is missing: onnx is needed",
        "−25 to +10 % at most",
        "The machine was shared.",
    ):
        assert part in text.replace("\\", "")
