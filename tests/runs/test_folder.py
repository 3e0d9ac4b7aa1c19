"""A run is done once, by one process at a time, and says how it went."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from minilm_lab.errors import LabError, told
from minilm_lab.runs import contents, environment, stopping
from minilm_lab.runs.folder import RunFolder, execute

FORK = multiprocessing.get_context("fork")
WHAT, HOW = {"seed": 3, "student": {"layers": 2}}, {"threads": 1}


def folder(runs: Path, name: str = "tiny") -> RunFolder:
    return RunFolder(runs, "distill", name, "0123456789")


def forbidden(_: RunFolder) -> dict[str, Any]:
    raise AssertionError("a completed run must not work again")


def status_of(runs: Path) -> dict[str, Any]:
    return json.loads((folder(runs).path / "status.json").read_text())


def test_a_run_is_recorded_and_returned_without_work(tmp_path: Path) -> None:
    seen: list[str] = []

    def work(run: RunFolder) -> dict[str, Any]:
        seen.append(status_of(tmp_path)["state"])
        run.checkpoints.mkdir()
        (run.checkpoints / "step-1.ckpt").write_text("state")
        return {"loss": 0.5}

    record = execute(folder(tmp_path), WHAT, HOW, work)
    assert seen == ["RUNNING"]
    assert {k: record[k] for k in ("command", "identity", "name", "config", "loss")} == {
        "command": "distill",
        "identity": "0123456789",
        "name": "tiny",
        "config": WHAT,
        "loss": 0.5,
    }
    assert {"wall_clock_s", "finished", "versions", "commit", "hardware"} <= set(record)
    path = tmp_path / "distill" / "tiny-0123456789"
    assert folder(tmp_path).path == path
    assert json.loads((path / "result.json").read_text()) == record
    assert status_of(tmp_path)["state"] == "COMPLETED" and status_of(tmp_path)["error"] is None
    assert OmegaConf.to_container(OmegaConf.load(path / "config.yaml")) == {"what": WHAT, "how": HOW}
    assert not (path / "checkpoints").exists()
    assert execute(folder(tmp_path), WHAT, HOW, forbidden) == record


def test_a_run_under_another_name_is_the_same_run(tmp_path: Path) -> None:
    record = execute(folder(tmp_path, "first"), WHAT, HOW, lambda _: {"loss": 0.5})
    assert folder(tmp_path, "second").path == folder(tmp_path, "first").path
    assert execute(folder(tmp_path, "second"), WHAT, HOW, forbidden) == record
    other = RunFolder(tmp_path, "finetune", "first", "0123456789")
    assert other.result() is None and not other.path.exists()


@pytest.mark.parametrize("error", [LabError("bad loss"), ValueError("bad loss")])
def test_a_failed_run_says_why_and_is_tried_again(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "0123456789abcdef")

    def fails(run: RunFolder) -> dict[str, Any]:
        run.checkpoints.mkdir()
        raise error from OSError(f"https://{os.environ['SOME_API_KEY']}@host")

    with pytest.raises(type(error), match="bad loss"):
        execute(folder(tmp_path), WHAT, HOW, fails)
    status = status_of(tmp_path)
    assert (status["state"], status["error"]) == ("FAILED", f"{type(error).__name__}: bad loss")
    assert folder(tmp_path).result() is None and folder(tmp_path).checkpoints.is_dir()
    log = folder(tmp_path).error_log
    assert "in fails" in log.read_text() and "https://<SOME_API_KEY>@host" in log.read_text()
    assert told(error).endswith(f"bad loss (log: {log})")
    assert execute(folder(tmp_path), WHAT, HOW, lambda _: {"loss": 1})["loss"] == 1
    assert status_of(tmp_path)["error"] is None and not log.exists()


def test_sigterm_that_comes_too_late_for_a_run_stops_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "_asked", False)
    before = signal.getsignal(signal.SIGTERM)

    def asked_at_the_end(_: RunFolder) -> dict[str, Any]:
        stopping.listen()
        os.kill(os.getpid(), signal.SIGTERM)
        return {"loss": 1}

    try:
        assert execute(folder(tmp_path), WHAT, HOW, asked_at_the_end)["loss"] == 1, "it is completed"
        assert execute(folder(tmp_path), WHAT, HOW, forbidden)["loss"] == 1, "and may be asked for again"
        with pytest.raises(stopping.Terminated):
            execute(folder(tmp_path / "other"), WHAT, HOW, forbidden)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not (folder(tmp_path / "other").path / "status.json").exists()


def test_an_interrupted_run_is_not_completed(tmp_path: Path) -> None:
    def interrupted(_: RunFolder) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(folder(tmp_path), WHAT, HOW, interrupted)
    assert status_of(tmp_path)["error"] == "KeyboardInterrupt: interrupted"
    assert folder(tmp_path).result() is None


def test_half_a_record_is_none(tmp_path: Path) -> None:
    execute(folder(tmp_path), WHAT, HOW, lambda _: {"n": 1})
    (folder(tmp_path).path / "result.json").write_text('{"command": "dis')
    assert folder(tmp_path).result() is None
    assert execute(folder(tmp_path), WHAT, HOW, lambda _: {"n": 2})["n"] == 2


@pytest.mark.parametrize("status", ['{"state": "RUNNING"}', '{"state": "COMP'])
def test_a_kill_between_record_and_status_costs_nothing(status: str, tmp_path: Path) -> None:
    execute(folder(tmp_path), WHAT, HOW, lambda _: {"n": 1})
    path = folder(tmp_path).path
    (path / "status.json").write_text(status)
    (path / "checkpoints").mkdir()
    assert execute(folder(tmp_path), WHAT, HOW, lambda _: {"n": 2})["n"] == 1
    assert status_of(tmp_path)["state"] == "COMPLETED"
    assert not (path / "checkpoints").exists()


def test_wall_clock_adds_up_sessions_and_counts_none_twice(tmp_path: Path) -> None:
    def clock(run: RunFolder, seconds: float) -> None:
        run.checkpoints.mkdir(exist_ok=True)
        (run.checkpoints / "clock.json").write_text(json.dumps({"seconds": seconds}))

    def first(run: RunFolder) -> dict[str, Any]:
        clock(run, 100)
        raise KeyboardInterrupt

    def second(run: RunFolder) -> dict[str, Any]:
        clock(run, 150)  # a checkpoint of this session counts all sessions so far
        time.sleep(0.2)
        return {}

    with pytest.raises(KeyboardInterrupt):
        execute(folder(tmp_path), WHAT, HOW, first)
    assert 100.2 <= execute(folder(tmp_path), WHAT, HOW, second)["wall_clock_s"] < 130


def _hold(runs: Path, started: Any, release: Any, answer: Any) -> None:
    def work(_: RunFolder) -> dict[str, Any]:
        started.set()
        assert release.wait(60)
        return {"worker": os.getpid()}

    answer.put(execute(folder(runs), WHAT, HOW, work))


def _start(runs: Path) -> tuple[Any, Any, Any, Any]:
    started, release, answer = FORK.Event(), FORK.Event(), FORK.Queue()
    process = FORK.Process(target=_hold, args=(runs, started, release, answer), daemon=True)
    process.start()
    assert started.wait(60)
    return process, started, release, answer


def _wait_for_the_other(runs: Path, log: Path, answer: Any) -> None:
    import logging

    logging.getLogger("minilm_lab").addHandler(logging.FileHandler(log))
    answer.put(execute(folder(runs, "another-name"), WHAT, HOW, lambda _: {"worker": os.getpid()}))


def _said(log: Path) -> str:
    for _ in range(600):
        if log.exists() and log.read_text():
            return log.read_text()
        time.sleep(0.05)
    raise AssertionError("the waiting process says nothing")


def test_the_second_process_waits_says_for_whom_and_returns_the_firsts_record(tmp_path: Path) -> None:
    first, _, release, answer = _start(tmp_path)
    theirs = FORK.Queue()
    second = FORK.Process(target=_wait_for_the_other, args=(tmp_path, tmp_path / "log", theirs), daemon=True)
    second.start()
    said = _said(tmp_path / "log")
    assert re.search(
        rf"waiting: \S+tiny-0123456789 is being worked on by process {first.pid} on \S+ since", said
    )
    assert second.is_alive() and theirs.empty()
    release.set()
    record = answer.get(timeout=60)
    assert record["worker"] == first.pid
    assert theirs.get(timeout=60) == record
    assert (tmp_path / "log").read_text().count("waiting") == 1
    for process in (first, second):
        process.join(60)


def test_a_killed_holder_frees_the_run(tmp_path: Path) -> None:
    first, *_ = _start(tmp_path)
    assert status_of(tmp_path)["state"] == "RUNNING" and status_of(tmp_path)["pid"] == first.pid
    theirs = FORK.Queue()
    second = FORK.Process(target=_wait_for_the_other, args=(tmp_path, tmp_path / "log", theirs), daemon=True)
    second.start()
    _said(tmp_path / "log")
    os.kill(first.pid, signal.SIGKILL)
    assert theirs.get(timeout=60)["worker"] == second.pid
    second.join(60)
    assert status_of(tmp_path)["state"] == "COMPLETED"


def test_the_runs_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("no folder")
    with pytest.raises(
        LabError, match=rf"paths\.runs={tmp_path / 'runs'} cannot be written to \(.*[Dd]irectory"
    ):
        execute(folder(tmp_path / "runs"), WHAT, HOW, forbidden)


def _as_nobody(runs: Path, answer: Any) -> None:
    if os.getuid() == 0:  # the superuser may write everywhere
        os.setgid(65534)
        os.setuid(65534)
    try:
        answer.put(execute(folder(runs), WHAT, HOW, lambda _: {}))
    except BaseException as error:
        answer.put((type(error).__name__, str(error)))


@pytest.mark.parametrize("mode, word", [(0o500, "written to"), (0o000, "read")])
def test_a_runs_folder_without_permission(mode: int, word: str, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    (runs / "distill").mkdir(parents=True)
    for place in (tmp_path, *tmp_path.parents[:3]):
        place.chmod(0o755)
    if os.getuid() == 0:
        for place in (runs, runs / "distill"):
            os.chown(place, 65534, 65534)
    for place in (runs / "distill", runs):
        place.chmod(mode)
    answer = FORK.Queue()
    process = FORK.Process(target=_as_nobody, args=(runs, answer))
    process.start()
    try:
        kind, message = answer.get(timeout=60)
    finally:
        process.join(60)
        for place in (runs, runs / "distill"):
            place.chmod(0o755)
    assert (kind, message) == ("LabError", f"paths.runs={runs} cannot be {word} (Permission denied)")


def test_a_full_disk_at_the_start(tmp_path: Path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minilm_lab.runs.files.os.fsync", full)
    with pytest.raises(LabError, match=r"cannot be written to \(No space left on device\)"):
        execute(folder(tmp_path), WHAT, HOW, forbidden)


def test_environment() -> None:
    found = environment.describe()
    assert {"versions", "commit", "hardware"} <= set(found)
    import torch

    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["versions"]["python"].startswith("3.") and set(environment.LIBRARIES) <= set(
        found["versions"]
    )
    assert found["hardware"]["cores"] == len(os.sched_getaffinity(0)) and found["hardware"]["cpu"]
    assert found["commit"] is None or re.fullmatch(r"[0-9a-f]{12}(\+changes)?", found["commit"])
    json.dumps(found)


def test_an_unknown_library_has_no_version() -> None:
    assert environment._version("no-such-library-at-all") is None


def test_what_a_record_says_of_its_files(tmp_path: Path) -> None:
    """A file that was cut or has grown is damage; a deleted one, and what changes by itself, is not."""
    run = folder(tmp_path)

    def work(run: RunFolder) -> dict[str, Any]:
        (run.path / "student").mkdir()
        (run.path / "student" / "weights").write_bytes(b"12345678")
        return {}

    record = execute(run, WHAT, HOW, work)["files"]
    assert record["student/weights"] == 8
    assert not {"lock", "status.json", "config.yaml", "result.json"} & set(record)
    (run.path / "lock").write_text("held by another")
    assert contents.damaged(run.path, record) is None
    for size in (7, 9):
        (run.path / "student" / "weights").write_bytes(b"x" * size)
        assert f"{size} bytes instead of 8" in str(contents.damaged(run.path, record))
    (run.path / "student" / "weights").unlink()
    assert contents.damaged(run.path, record) is None


def test_the_start_of_a_run_stays_known_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(f"2026-01-01T00:00:{second:02}+00:00" for second in range(60))
    monkeypatch.setattr("minilm_lab.runs.folder.now", lambda: next(clock))
    started: list[str] = []

    def work(run: RunFolder) -> dict[str, Any]:
        started.append(status_of(tmp_path)["started"])
        return {}

    execute(folder(tmp_path), WHAT, HOW, work)
    assert status_of(tmp_path)["state"] == "COMPLETED" and status_of(tmp_path)["started"] == started[0]
    assert status_of(tmp_path)["updated"] > started[0]


def test_everything_is_on_the_disk_before_it_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of calls: content flushed, then renamed; the run's files, then result.json."""
    calls: list[tuple[str, str]] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        calls.append(
            ("flush", Path(f"/proc/self/fd/{descriptor}").readlink().name.lstrip(".").split(".tmp")[0])
        )
        fsync(descriptor)

    def noted_replace(self: Path, target: Any) -> Any:
        calls.append(("rename", Path(target).name))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)

    def work(run: RunFolder) -> dict[str, Any]:
        (run.path / "student").mkdir()
        (run.path / "student" / "weights").write_bytes(b"1")
        return {}

    execute(folder(tmp_path), WHAT, HOW, work)
    renamed = calls.index(("rename", "result.json"))
    assert ("flush", "weights") in calls[:renamed], calls
    for place, (what, name) in enumerate(calls):
        if what == "rename":
            assert any(done == "flush" and file.startswith(name) for done, file in calls[:place]), (
                name,
                calls,
            )
