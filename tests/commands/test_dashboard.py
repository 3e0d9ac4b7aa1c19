"""The W&B workspace: what its specification asks for is what runs have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lab import Lab

from minilm_lab.runs.facets import facets, flatten

pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is an extra")


def panels(found: dict[str, Any]) -> list[dict[str, Any]]:
    sections = found["spec"]["section"]["panelBankConfig"]["sections"]
    return [panel for section in sections for panel in section["panels"]]


def test_without_a_login_the_specification_is_written(lab: Lab, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    env: dict[str, str | None] = {"WANDB_API_KEY": None, "NETRC": "/dev/null", "WANDB_MODE": None}
    finished = lab.run("dashboard", f"paths.runs={runs}", "title=Half depth", "project=lab", env=env)
    assert finished.code == 0, finished.err
    assert "not logged in" in finished.out and "wandb login" in finished.out
    found = json.loads((runs / "dashboard.json").read_text())
    assert found["displayName"] == "Half depth" and found["project"] == "lab"

    by_kind = {panel["viewType"]: panel["config"] for panel in panels(found)}
    axes = [column["accessor"] for column in by_kind["Parallel Coordinates Plot"]["columns"]]
    assert axes[-1] == "summary:score"
    # Each axis is a setting of runs: W&B writes `.value` behind the first name of a nested one.
    what = {
        "teacher": {"layer": 6},
        "student": {"layers": 3, "hidden_size": 384},
        "objective": {"relations": ["qq"], "heads": 48},
        "task": {"kind": "classification"},
    }
    names = {"student": "half_depth", "objective": "qq-48", "task": "sst2"}
    settings = flatten(facets(what, names))
    keys = [axis.removeprefix("config:").replace(".value.", ".") for axis in axes[:-1]]
    assert len(keys) == 5 and set(keys) <= set(settings)
    bars = [panel["config"] for panel in panels(found) if panel["viewType"] == "Bar Chart"]
    assert {bar["groupBy"].replace(".value.", ".") for bar in bars} <= set(settings)
    assert {(bar["groupAgg"], bar["groupArea"]) for bar in bars} == {("mean", "stddev")}
    assert by_kind["Scatter Plot"]["xAxis"] == "summary:parameters.total"
    assert by_kind["Scatter Plot"]["yAxis"] == "summary:score"
    lines = [panel["config"] for panel in panels(found) if panel["viewType"] == "Run History Line Plot"]
    assert {"loss", "held_out_loss"} <= {metric for line in lines for metric in line["metrics"]}
    assert {line["xAxis"] for line in lines} == {"trainer/global_step"}


def test_dry_writes_where_it_is_told(lab: Lab, tmp_path: Path) -> None:
    out = tmp_path / "spec.json"
    finished = lab.run("dashboard", "dry=true", f"out={out}", "entity=team", env={"WANDB_API_KEY": "0" * 40})
    assert finished.code == 0, finished.err
    assert json.loads(out.read_text())["entity"] == "team" and "dry=true" in finished.out
