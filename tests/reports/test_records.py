"""Reading run folders, good and bad."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from minilm_lab.reports.records import load, read_metrics

MakeRun = Callable[..., Path]

DONE = {
    "state": "COMPLETED",
    "error": None,
    "pid": 7,
    "host": "here",
    "started": "2025-01-01T10:00:00+00:00",
    "updated": "2025-01-01T10:05:00Z",
    "new_key": [1],
}


def test_a_completed_run_is_read_whole(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run(
        status=DONE,
        result={
            "command": "finetune",
            "identity": "abc",
            "name": "sst2 half_depth",
            "config": {"seed": 3, "student": {"layers": 3}},
            "score": {"name": "accuracy", "value": 85.5},
            "from_a_later_version": {},
        },
        metrics='{"step": 1, "loss": 2.0}\n',
    )
    [record] = load(tmp_path / "runs")
    assert (record.folder, record.command, record.name) == (folder, "finetune", "sst2 half_depth")
    assert (record.identity, record.state, record.pid, record.host) == ("abc", "COMPLETED", 7, "here")
    assert record.started == datetime(2025, 1, 1, 10, 0, tzinfo=UTC)
    assert record.updated == datetime(2025, 1, 1, 10, 5, tzinfo=UTC)
    assert (record.seed, record.score) == (3, ("accuracy", 85.5))
    assert record.get("config.student.layers") == 3
    assert record.get("config.student.layers.deeper") is None
    assert record.progress == {}


def test_a_running_run_has_its_progress_from_the_last_whole_lines(make_run: MakeRun, tmp_path: Path) -> None:
    lines = [{"step": i, "loss": 5.0 - i / 1e4} for i in range(5000)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    make_run(
        "distill",
        "half_depth",
        status={**DONE, "state": "RUNNING"},
        metrics=text + '{"step": 5000, "held_out_loss": 3.5}\n{"step": 5001, "lo',
    )
    [record] = load(tmp_path / "runs")
    assert record.progress == {"step": 5000, "loss": lines[-1]["loss"], "held_out_loss": 3.5}
    assert (record.name, record.identity) == ("half_depth", "0123456789abcdef")


def test_read_metrics_skips_cut_and_foreign_lines(make_run: MakeRun) -> None:
    folder = make_run(
        metrics='{"step": 1, "loss": 2.0}\n\n[1]\n7\nnot json\n{"step": 2, "loss": NaN}\n{"step": 3'
    )
    lines = read_metrics(folder)
    assert [line["step"] for line in lines] == [1, 2]
    assert math.isnan(lines[1]["loss"])
    assert read_metrics(folder / "absent") == []


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (None, "status.json is missing"),
        ("", "status.json cannot be read"),
        ('{"state": "RUNN', "status.json cannot be read"),
        ("[1, 2]", "status.json holds a list"),
        ("[" * 200_000, "status.json cannot be read"),
        ('{"state": "DONE"}', "state 'DONE'"),
        ('{"state": ["RUNNING"]}', "state ['RUNNING']"),
        ("{}", "state None"),
        ('{"state": "COMPLETED"}', "result.json is missing"),
    ],
)
def test_a_broken_folder_is_reported_and_does_not_hide_the_others(
    make_run: MakeRun, tmp_path: Path, status: str | None, reason: str
) -> None:
    make_run(slug="good", identity="1" * 16, status={"state": "FAILED", "error": "no disk"})
    make_run(slug="bad", identity="2" * 16, status=status)
    records = load(tmp_path / "runs")
    assert {record.name for record in records} == {"good", "bad"}
    [bad] = [record for record in records if record.state == "UNREADABLE"]
    assert bad.name == "bad"
    assert bad.error is not None and reason in bad.error


def test_half_written_result_is_reported(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(status=DONE, result='{"command": "finetune", "score": {"na')
    [record] = load(tmp_path / "runs")
    assert record.state == "UNREADABLE" and record.result == {}


def test_hostile_values_are_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    status = {"state": "RUNNING", "error": 5, "pid": True, "host": [], "started": "soon", "updated": 12}
    folder = make_run(status=status)
    (folder / "metrics.jsonl").mkdir()
    os.utime(folder, (1e9, 1e9))
    result = {"config": "x", "score": {"name": 3, "value": "85"}, "identity": 4, "name": "", "command": None}
    make_run(slug="odd", status={**DONE, "pid": -1}, result=result)
    odd, running = load(tmp_path / "runs")
    assert (running.pid, running.host, running.started, running.error) == (None, None, None, None)
    assert running.updated == datetime.fromtimestamp(1e9, UTC)
    assert (odd.pid, odd.seed, odd.score, odd.name, odd.command) == (None, None, None, "odd", "finetune")
    assert odd.identity == "0123456789abcdef"


def test_a_time_without_zone_is_utc(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(status={"state": "RUNNING", "updated": "2025-01-01T10:00:00"})
    assert load(tmp_path / "runs")[0].updated == datetime(2025, 1, 1, 10, tzinfo=UTC)


def test_other_folders_and_files_are_no_runs(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(status={"state": "RUNNING"})
    for name in (
        "finetune/.trash-0123456789abcdef",
        "finetune/notes",
        "multirun/2025-01-01",
        ".cache/x-0123456789",
    ):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs" / "file").write_text("")
    assert len(load(tmp_path / "runs")) == 1
    assert load(tmp_path / "absent") == []
