"""`minilm-lab runs`: filters, order and comparison on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lab import Lab


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scores of students of different depth, as their records."""
    folder = tmp_path_factory.mktemp("records") / "runs"
    for number, (layers, score) in enumerate([(3, 78.5), (6, 84.0)]):
        identity = f"abcdef000{number}"
        student: dict[str, Any] = {"student": {"layers": layers, "hidden_size": 384}, "seed": 0}
        result = {
            "command": "finetune",
            "identity": identity,
            "name": f"l{layers}",
            "config": {"source": {"run": f"beef00{number}"}, "seed": 0},
            "source": {"kind": "run", "run": f"beef00{number}", "config": student},
            "scores": {"accuracy": score},
            "score": {"name": "accuracy", "value": score},
        }
        run = folder / "finetune" / f"l{layers}-{identity}"
        run.mkdir(parents=True)
        (run / "result.json").write_text(json.dumps(result))
        (run / "status.json").write_text(
            json.dumps({"state": "COMPLETED", "updated": f"2026-01-0{number + 1}"})
        )
    return folder


def test_filter_sort_and_compare(lab: Lab, runs: Path) -> None:
    where = f"paths.runs={runs}"

    def identities(*words: str) -> list[str]:
        finished = lab.run("runs", where, "json=true", *words)
        assert finished.code == 0, finished.err
        return [line["identity"] for line in json.loads(finished.out)]

    assert identities("sort=score") == ["abcdef0001", "abcdef0000"]
    assert identities("sort=name") == ["abcdef0000", "abcdef0001"]
    assert identities("where=student.layers:3") == ["abcdef0000"]
    assert identities("where=[student.hidden_size:384,seed:0]", "command=finetune") == [
        "abcdef0001",
        "abcdef0000",
    ]
    assert identities("where='student.layers=6'") == ["abcdef0001"]
    assert identities("where=student.layers:9") == []

    plain = lab.run("runs", where, "compare=[abcdef0000,abcdef0001]")
    assert plain.code == 0, plain.err
    lines = [line.split() for line in plain.out.splitlines()]
    assert ["student.layers", "3", "6"] in lines and ["accuracy", "78.50", "84.00", "+5.50"] in lines
    assert not any("hidden_size" in line for line in plain.out.splitlines()), "it does not differ"
    assert "\x1b" not in plain.out
    data = json.loads(lab.run("runs", where, "compare=[abcdef0000,abcdef0001]", "json=true").out)
    assert data["settings"]["student.layers"] == [3, 6] and data["results"]["accuracy"] == [78.5, 84.0]


def test_what_is_not_there_is_said(lab: Lab, runs: Path) -> None:
    where = f"paths.runs={runs}"
    unknown = lab.run("runs", where, "compare=[abcdef0000,abcdef0009]")
    assert unknown.code == 1 and "'abcdef0009' is no run. Did you mean" in unknown.err
    assert lab.run("runs", where, "compare=[abcdef0000]").err.count("two different runs") == 1
    setting = lab.run("runs", where, "where=student.layer:3")
    assert setting.code == 1 and "Did you mean 'student.layers'?" in setting.err
    none = lab.run("runs", where, "contains=nothing")
    assert none.code == 0 and "none of the 2 runs" in none.out
