"""The list of runs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from minilm_lab.errors import LabError
from minilm_lab.reports import listing
from minilm_lab.reports.listing import list_runs, process_alive, to_data, to_rich, to_text
from minilm_lab.reports.records import Record

NOW = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)


def record(name: str, state: str = "COMPLETED", seconds: float | None = 0, **more: Any) -> Record:
    updated = None if seconds is None else NOW - timedelta(seconds=seconds)
    more = {"command": "distill", "identity": f"id-{name}", **more}
    return Record(folder=Path("runs/distill") / name, name=name, state=state, updated=updated, **more)


def one(listed: Record, **options: Any) -> Any:
    [line] = list_runs([listed], now=NOW, **options)
    return line


@pytest.mark.parametrize(
    ("seconds", "age"),
    [
        (None, "–"),
        (-30, "now"),
        (0.5, "now"),
        (59.9, "60 s ago"),
        (180, "3 min ago"),
        (3599, "59 min ago"),
        (7200, "2 h ago"),
        (2.5 * 86400, "2 d ago"),
    ],
)
def test_age(seconds: float | None, age: str) -> None:
    assert one(record("a", seconds=seconds)).age == age


@pytest.mark.parametrize(
    ("listed", "text"),
    [
        (record("a", result={"loss": 1.23456, "held_out_loss": {"last": 2}}), "loss 1.235"),
        (record("a", result={"loss": 1.0, "score": {"name": "accuracy", "value": 85.55}}), "accuracy 85.5"),
        (record("a", result={}), "–"),
        (record("a", "RUNNING", progress={"step": 120, "loss": 2.5}), "step 120, loss 2.5"),
        (record("a", "RUNNING"), "–"),
        (record("a", "FAILED", error="no\nspace\x1b[31m"), "no space\ufffd[31m"),
        (record("a", "FAILED", error="e" * 100), "e" * 59 + "…"),
    ],
)
def test_result(listed: Record, text: str) -> None:
    assert one(listed).result == text


def test_newest_first_and_filters() -> None:
    runs = [
        record("old half_depth", seconds=500),
        record("new L3", seconds=5, command="finetune"),
        record("no time", seconds=None),
        record("middle", "FAILED", seconds=50, identity="beef01"),
    ]

    def names(**options: Any) -> list[str]:
        return [line.record.name for line in list_runs(runs, now=NOW, **options)]

    assert names() == ["new L3", "middle", "old half_depth", "no time"]
    assert names(command="finetune") == ["new L3"]
    assert names(state="failed") == ["middle"]
    assert names(contains="HALF") == ["old half_depth"]
    assert names(contains="BEEF") == ["middle"]
    assert names(command="finetune", state="FAILED") == []
    with pytest.raises(LabError, match="Did you mean 'FAILED'"):
        names(state="faild")


def test_a_running_run_without_its_process_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    here = socket.gethostname()
    running = record("a", "RUNNING", pid=5, host=here)

    def dead(pid: int, seen: datetime | None) -> bool:
        assert (pid, seen) == (5, running.updated)
        return False

    monkeypatch.setattr(listing, "process_alive", dead)
    assert one(running).state == "INTERRUPTED"
    # What runs elsewhere, or who runs it, cannot be known from here.
    assert one(record("a", "RUNNING", pid=5, host="there")).state == "RUNNING"
    assert one(record("a", "RUNNING", host=here)).state == "RUNNING"
    assert one(record("a", pid=5, host=here)).state == "COMPLETED"
    assert list_runs([running], now=NOW, state="interrupted")
    assert not list_runs([running], now=NOW, state="running")
    monkeypatch.setattr(listing, "process_alive", lambda pid, seen: True)
    assert one(running).state == "RUNNING"


def test_real_processes() -> None:
    now = datetime.now(UTC)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    running = record("a", "RUNNING", pid=child.pid, host=socket.gethostname(), seconds=None)
    try:
        assert process_alive(child.pid, None)
        assert process_alive(child.pid, now)
        assert list_runs([running])[0].state == "RUNNING"
    finally:
        child.communicate(b"\n")
    assert not process_alive(child.pid, now)
    assert list_runs([running])[0].state == "INTERRUPTED"
    assert not process_alive(2**70, now)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the age of a process is read from /proc")
def test_a_process_younger_than_the_runs_last_sign_of_life_is_another_one() -> None:
    assert process_alive(os.getpid(), datetime.now(UTC))
    assert not process_alive(os.getpid(), datetime.now(UTC) - timedelta(days=3000))


def test_plain_text_is_aligned_and_never_cut() -> None:
    runs = [record("n" * 150, seconds=60), record("short", "FAILED", error="no disk", seconds=7200)]
    assert to_text(list_runs(runs, now=NOW)).split("\n") == [
        f"STATE      COMMAND  {'NAME':150}  RESULT   AGE        IDENTITY",
        f"COMPLETED  distill  {'n' * 150}  –        1 min ago  id-{'n' * 150}",
        f"FAILED     distill  {'short':150}  no disk  2 h ago    id-short",
        "",
    ]
    assert to_text([]) == "STATE  COMMAND  NAME  RESULT  AGE  IDENTITY\n"


def test_rich_table_shows_markup_as_text_and_no_terminal_escapes() -> None:
    console = Console(file=StringIO(), width=160, color_system=None)
    console.print(to_rich(list_runs([record("[red]x[/red] \x1b]0;t\x07")], now=NOW)))
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert "[red]x[/red]" in text and "1 " not in text and "\x1b" not in text and "\x07" not in text


def test_data_is_strict_json() -> None:
    runs = [
        record("a", result={"loss": float("nan"), "score": {"name": "pearson", "value": float("nan")}}),
        record("b", "RUNNING", seconds=9, progress={"step": 3, "loss": 2.5}, started=NOW),
    ]
    first, second = json.loads(json.dumps(to_data(list_runs(runs, now=NOW)), allow_nan=False))
    assert first["score"] == {"name": "pearson", "value": None} and first["loss"] is None
    assert second == {
        "state": "RUNNING",
        "command": "distill",
        "name": "b",
        "identity": "id-b",
        "score": None,
        "loss": 2.5,
        "step": 3.0,
        "error": None,
        "started": "2025-06-01T12:00:00+00:00",
        "updated": "2025-06-01T11:59:51+00:00",
        "folder": "runs/distill/b",
    }


def test_rich_table_cuts_nothing_at_80_columns() -> None:
    runs = [
        record("half_depth minilmv2 48 heads", result={"loss": 1.2345}, identity="0123456789ab"),
        record("sst2", "FAILED", error="out of memory: tried to allocate 20 GiB", identity="ba9876543210"),
    ]
    console = Console(file=StringIO(), width=80, color_system=None)
    console.print(to_rich(list_runs(runs, now=NOW + timedelta(minutes=3))))
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    for word in (
        "COMPLETED",
        "distill",
        "half_depth",
        "1.234",
        "3 min ago",
        "0123456789ab",
        "allocate",
        "GiB",
    ):
        assert word in text
    assert "…" not in text


def test_sorted_by_score_loss_or_name() -> None:
    def scored(
        name: str, score: float | None, held_out: float | None, loss: float | None, seconds: int
    ) -> Record:
        told = {"score": {"name": "accuracy", "value": score}} if score is not None else {}
        return record(
            name, seconds=seconds, result={**told, "held_out_loss": {"last": held_out}, "loss": loss}
        )

    runs = [
        scored("b", 80.0, 3.0, 1.0, 1),
        scored("A", 90.0, 2.0, 5.0, 2),
        scored("c", None, None, 2.5, 3),
        scored("d", float("nan"), None, None, 4),
        record("e", "RUNNING", seconds=5, progress={"loss": 0.5}),
    ]

    def names(sort: str) -> str:
        return "".join(line.record.name for line in list_runs(runs, now=NOW, sort=sort))

    assert names("age") == "bAcde"
    assert names("score") == "Abcde"
    # The held-out loss counts where there is one.
    assert names("loss") == "eAcbd"
    assert names("name") == "Abcde"
    with pytest.raises(
        LabError, match=r"sort=scor must be one of age, score, loss, name. Did you mean 'score'"
    ):
        names("scor")
