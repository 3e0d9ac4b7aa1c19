"""Finding tables: which is shown first, what is no table, what is missing."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

from minilm_lab.reports.curves import Curve, write_curves
from minilm_lab.reports.results import Planned, find
from minilm_lab.reports.table import Caption, Table


def put(table: Table, folder: Path, scale: str = "demo", age: int = 0, title: str = "T") -> Path:
    """Write `table` as a result of some scale; `age` in days."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "table.json"
    caption = dataclasses.replace(table.caption, scale=scale)
    file.write_text(dataclasses.replace(table, title=title, caption=caption).to_json(), encoding="utf-8")
    time = 1_700_000_000 - age * 86400  # 2023-11-14 22:13 UTC
    os.utime(file, (time, time))
    return file


def test_names_are_in_natural_order_and_planned_ones_are_there(table: Table, tmp_path: Path) -> None:
    for name in ("table10", "table2", "alpha"):
        put(table, tmp_path / "experiments" / name / "results" / "demo")
    put(table, tmp_path / "runs" / "tables" / "own")
    (tmp_path / "experiments" / "no_results").mkdir()
    planned = {"table3": Planned("Third", "Intro"), "table2": Planned("Second")}
    found = find(tmp_path / "experiments", tmp_path / "runs", planned)
    assert [e.name for e in found] == ["alpha", "own", "table2", "table3", "table10"]
    assert [e.title for e in found] == ["T", "T", "Second", "Third", "T"]
    assert [len(e.results) for e in found] == [1, 1, 1, 0, 1]
    assert [e.results[0].committed for e in found if e.results] == [True, False, True, True]


def test_own_results_come_first_then_the_largest_scale(table: Table, tmp_path: Path) -> None:
    results = tmp_path / "experiments" / "x" / "results"
    for scale in ("paper", "demo", "laptop", "gpu"):
        put(table, results / scale, scale)
    put(table, tmp_path / "runs" / "tables" / "x", "demo", age=5, title="older")
    put(table, tmp_path / "runs" / "tables" / "x-laptop", "laptop", age=4, title="newer")
    empty = Table(table.title, table.rows, table.columns, {}, Caption())
    put(empty, tmp_path / "runs" / "tables" / "x-gpu", "gpu")
    [experiment] = find(tmp_path / "experiments", tmp_path / "runs", {})
    shown = [(r.table.title, r.table.caption.scale, r.committed) for r in experiment.results]
    assert shown == [
        ("newer", "laptop", False),
        ("older", "demo", False),
        ("T", "paper", True),
        ("T", "gpu", True),
        ("T", "laptop", True),
        ("T", "demo", True),
        ("T", "gpu", False),
    ]
    assert experiment.results[0].date == "2023-11-10"
    assert experiment.results[0].measured == 12 and experiment.results[-1].measured == 0


def test_a_table_that_is_there_twice_is_shown_once(table: Table, tmp_path: Path) -> None:
    put(table, tmp_path / "experiments" / "x" / "results" / "demo")
    put(table, tmp_path / "runs" / "tables" / "x")
    [experiment] = find(tmp_path / "experiments", tmp_path / "runs", {})
    assert len(experiment.results) == 1


def test_what_lies_beside_a_table_is_found(table: Table, tmp_path: Path) -> None:
    folder = put(table, tmp_path / "experiments" / "x" / "results" / "demo").parent
    write_curves([Curve("c", [(1.0, 2.0)])], folder / "curves.json")
    (folder / "table.md").write_text("")
    (folder / "bench.md").write_text("# Bench")
    (tmp_path / "experiments" / "x" / "README.md").write_text("# x\n")
    [experiment] = find(tmp_path / "experiments", tmp_path / "runs", {})
    assert experiment.results[0].curves == [Curve("c", [(1.0, 2.0)])]
    assert experiment.other == [folder / "bench.md"] and experiment.readme == "# x\n"


def test_broken_files_are_problems_and_stop_nothing(table: Table, tmp_path: Path) -> None:
    results = tmp_path / "experiments" / "x" / "results"
    put(table, results / "demo")
    (results / "demo" / "curves.json").write_text('[{"label": 1}]')
    put(table, results / "laptop").write_text("{")
    put(table, results / "gpu").write_bytes(b"\xff\xfe")
    planned = {"x": Planned("x", problem="experiments/x: no title")}
    [experiment] = find(tmp_path / "experiments", tmp_path / "runs", planned)
    assert len(experiment.results) == 1 and experiment.results[0].curves == []
    problems = "\n".join(experiment.problems)
    assert len(experiment.problems) == 4
    for words in ("no title", "not JSON", "curves.json holds no loss curves", "utf-8"):
        assert words in problems


def test_nothing_at_all(tmp_path: Path) -> None:
    assert find(tmp_path / "experiments", tmp_path / "runs", {}) == []


def test_a_committed_result_has_the_day_of_its_commit(table: Table, tmp_path: Path) -> None:
    put(table, tmp_path / "experiments" / "x" / "results" / "demo")
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    day = {
        **os.environ,
        "GIT_AUTHOR_DATE": "2024-02-03T12:00:00Z",
        "GIT_COMMITTER_DATE": "2024-02-03T12:00:00Z",
    }
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *words], cwd=tmp_path, env=day, check=True)
    [experiment] = find(tmp_path / "experiments", tmp_path / "runs", {})
    assert experiment.results[0].date == "2024-02-03"
