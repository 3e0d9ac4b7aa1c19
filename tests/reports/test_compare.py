"""Finding runs by their settings or identities, and setting them side by side."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from minilm_lab.errors import LabError
from minilm_lab.reports.compare import compare, to_data, to_rich, to_text
from minilm_lab.reports.records import Record, load
from minilm_lab.reports.select import matching, named, settings
from minilm_lab.runs.facets import facets, flatten

from .conftest import MakeRun

DONE = {"state": "COMPLETED"}


def what(relations: list[str], layers: int) -> dict[str, Any]:
    return {
        "teacher": {"package": "all_minilm_l6", "layer": 6},
        "student": {"layers": layers, "hidden_size": 384, "dropout": 0.0},
        "objective": {"kind": "RelationObjective", "relations": relations, "heads": None},
        "optim": {"lr": 1e-4, "betas": [0.9, 0.999]},
        "seed": 0,
    }


@pytest.fixture
def found(make_run: MakeRun, tmp_path: Path) -> list[Record]:
    """Two distillations, the score of the first, one that runs."""

    def lines(start: float, steps: range) -> str:
        return "".join(json.dumps({"step": step, "loss": start - step / 100}) + "\n" for step in steps)

    names = {"teacher": "all_minilm_l6", "student": "half_depth", "objective": "qq.vv"}
    first, second = what(["qq", "vv"], 3), what(["qq", "kk", "vv"], 3)
    common = {"held_out_loss": {"first": 9.0, "last": 2.5}, "wall_clock_s": 60.0, "names": names}
    make_run(
        "distill", "a", "aaaa000001", status=DONE, metrics=lines(9, range(0, 100, 10)),
        result={"name": "a", "identity": "aaaa000001", "config": first, "loss": 8.1, **common},
    )  # fmt: skip
    make_run(
        "distill", "b", "aaaa000002", status=DONE, metrics=lines(7, range(0, 100, 20)),
        result={"name": "b", "identity": "aaaa000002", "config": second, "loss": 6.2, **common, "wall_clock_s": 90.5},
    )  # fmt: skip
    tuned = {
        "config": {"source": {"run": "aaaa000001"}, "task": {"kind": "classification"}, "seed": 1},
        "names": {**names, "task": "sst2"},
        "source": {"kind": "run", "run": "aaaa000001", "config": first},
        "scores": {"accuracy": 80.25},
        "score": {"name": "accuracy", "value": 80.25},
        "parameters": {"total": 17389824},
    }
    make_run(
        "finetune", "c", "cccc000003", status=DONE, result={"name": "c", "identity": "cccc000003", **tuned}
    )
    folder = make_run(
        "distill", "d", "dddd000004", status={"state": "RUNNING", "host": "elsewhere", "pid": 3}
    )
    config = {"what": what(["vv"], 4), "how": {"asked": {"experiment_name": "trial"}}}
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    return load(tmp_path / "runs")


def test_settings_of_a_score_have_its_students(found: list[Record]) -> None:
    told = {record.identity: settings(record) for record in found}
    score, running = told["cccc000003"], told["dddd000004"]
    assert score["student.layers"] == 3 and score["student.name"] == "half_depth"
    assert score["objective.relations"] == "qq,vv" and score["task.name"] == "sst2"
    assert (score["seed"], score["distillation.seed"]) == (1, 0)
    assert (score["source.kind"], score["source.run"]) == ("run", "aaaa000001")
    assert (running["student.layers"], running["experiment"]) == (4, "trial")


@pytest.mark.parametrize(
    ("where", "identities"),
    [
        ([], ["aaaa000001", "aaaa000002", "dddd000004", "cccc000003"]),
        (["student.layers:3"], ["aaaa000001", "aaaa000002", "cccc000003"]),
        (["student.layers=4"], ["dddd000004"]),
        (["objective.relations:qq.vv"], ["aaaa000001", "cccc000003"]),
        (["objective.relations:[qq,kk,vv]"], ["aaaa000002"]),
        (["optim.lr:0.0001", "command:finetune"], ["cccc000003"]),
        (["student.dropout: 0", "seed:1"], ["cccc000003"]),
        (["objective.heads:null", "student.layers:4"], ["dddd000004"]),
        (["experiment:trial"], ["dddd000004"]),
        (["seed:7"], []),
    ],
)
def test_where(found: list[Record], where: list[str], identities: list[str]) -> None:
    assert [record.identity for record in matching(found, where)] == identities


def test_what_no_run_has_is_named(found: list[Record]) -> None:
    assert [record.identity for record in matching(found, [], "trial")] == ["dddd000004"]
    with pytest.raises(LabError, match=r"no run has a setting student.layer. Did you mean 'student.layers'"):
        matching(found, ["student.layer:3"])
    with pytest.raises(LabError, match="write a setting and its value"):
        matching(found, ["half"])
    assert matching([], ["student.layer:3"]) == []


def test_runs_are_named_by_identity_its_beginning_or_name(found: list[Record]) -> None:
    assert [r.name for r in named(found, ["cccc000003", "aaaa000002", "dddd", "a"])] == ["c", "b", "d", "a"]
    with pytest.raises(LabError, match=r"'cccc000008' is no run. Did you mean 'cccc000003'"):
        named(found, ["cccc000008"])
    with pytest.raises(LabError, match=r"'aaaa' fits 2 runs: aaaa000001 .distill a., aaaa000002"):
        named(found, ["aaaa"])


def test_only_what_differs_and_losses_at_common_steps(found: list[Record]) -> None:
    compared = compare(named(found, ["aaaa000001", "aaaa000002"]))
    data = json.loads(json.dumps(to_data(compared), allow_nan=False))
    assert data["settings"] == {"objective.relations": ["qq,vv", "qq,kk,vv"]}
    assert data["results"]["wall clock (s)"] == [60.0, 90.5] and data["results"]["loss"] == [8.1, 6.2]
    assert data["results"]["held-out loss"] == [2.5, 2.5]
    assert "parameters (M)" not in data["results"]
    assert data["loss"] == {
        str(s): [pytest.approx(9 - s / 100), pytest.approx(7 - s / 100)] for s in range(0, 100, 20)
    }
    assert "compare scores" in data["note"]
    assert [run["identity"] for run in data["runs"]] == ["aaaa000001", "aaaa000002"]

    text = to_text(compared)
    assert text.splitlines()[0].split() == [
        "SETTINGS",
        "THAT",
        "DIFFER",
        "aaaa000001",
        "aaaa000002",
        "DIFFERENCE",
    ]
    assert ["wall", "clock", "(s)", "60.0", "90.5", "+30.5"] in [line.split() for line in text.splitlines()]
    assert ["80", "8.2000", "6.2000", "-2.0000"] in [line.split() for line in text.splitlines()]
    console = Console(file=StringIO(), width=100, color_system=None)
    console.print(to_rich(compared))
    assert isinstance(console.file, StringIO)
    shown = console.file.getvalue()
    assert "objective.relations" in shown and "+30.5" in shown and "compare scores" in shown


def test_three_runs_a_score_among_them(found: list[Record]) -> None:
    compared = compare(named(found, ["aaaa000001", "cccc000003", "dddd000004"]))
    results = to_data(compared)["results"]
    assert results["accuracy"] == [None, 80.25, None]
    assert results["parameters (M)"] == [None, pytest.approx(17.389824), None]
    assert results["state"] == ["COMPLETED", "COMPLETED", "RUNNING"]
    assert not compared.losses and "DIFFERENCE" not in to_text(compared)
    for names in (["aaaa000001"], ["aaaa000001", "aaaa000001"]):
        with pytest.raises(LabError, match="two different runs"):
            compare(named(found, names))


def test_facets_group_names_and_keep_other_sources_apart() -> None:
    told = facets(
        {
            "source": {"hub": "org/model"},
            "task": {"metrics": ["f1"], "bounds": None},
            "pairs": [[3, 5]],
            "seed": 2,
        },
        {"task": "mrpc", "source": "org/model", "corpus": "wikipedia"},
        {"kind": "path", "run": None, "config": {"hub": "org/model"}},
    )
    assert told == {
        "source": {"name": "org/model", "kind": "path", "run": None, "hub": "org/model"},
        "task": {"name": "mrpc", "metrics": "f1", "bounds": None},
        "pairs": "[[3, 5]]",
        "seed": 2,
    }
    assert flatten({"a": {"b": {"c": 1}, "d": None}, "e": "x"}) == {"a.b.c": 1, "a.d": None, "e": "x"}
