"""Offline runs are uploaded under their identities, sessions in order, and none twice: to a server in this process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from lab import Lab
from wandb_server import Server

from minilm_lab.commands import sync

LOGGED_OUT: dict[str, str | None] = {"WANDB_API_KEY": None, "NETRC": "/dev/null", "WANDB_MODE": None}
IDENTITY = "abcdef0123"
#: A session of training: steps [first, last) of a run, a line each.
SESSION = """
import sys, wandb
first, last, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
run = wandb.init(project="minilm-lab", id=sys.argv[4], name="n", job_type="distill", group="trial", dir=folder,
                 resume="allow", mode="offline", config={"student": {"layers": 3}})
for step in range(first, last):
    run.log({"loss": 9 - step / 10, "trainer/global_step": step})
wandb.finish()
"""


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def session(folder: Path, first: int, last: int, identity: str = IDENTITY) -> Path:
    """Log a session of a run offline; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.glob("wandb/offline-run-*"))
    if before:
        time.sleep(1.1)  # W&B names sessions by the second
    words = [sys.executable, "-c", SESSION, str(first), str(last), str(folder), identity]
    subprocess.run(words, env={**os.environ, "WANDB_SILENT": "true"}, check=True)
    (made,) = set(folder.glob("wandb/offline-run-*")) - before
    return made


def status(folder: Path, state: str, pid: int = 0) -> None:
    told = {
        "state": state,
        "pid": pid or None,
        "host": socket.gethostname(),
        "updated": "2999-01-01T00:00:00+00:00",
    }
    (folder / "status.json").write_text(json.dumps(told))


def test_sessions_become_one_run_and_nothing_is_uploaded_twice(
    lab: Lab, server: Server, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    folder = runs / "distill" / f"a-{IDENTITY}"
    session(folder, 0, 6)
    env: dict[str, str | None] = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "a" * 40, "WANDB_MODE": None}
    session(folder, 4, 10)
    status(folder, "FAILED")
    where = f"paths.runs={runs}"

    dry = lab.run("sync", where, "dry=true", env=env)
    assert dry.code == 0, dry.err
    assert dry.out.startswith("2 to upload") and dry.out.count(IDENTITY) >= 2 and not server.runs

    done = lab.run("sync", where, env=env)
    assert done.code == 0, done.err
    assert "uploaded 2 (1 runs)" in done.out
    assert list(server.runs) == [IDENTITY]
    run = server.runs[IDENTITY]
    # The second session goes on behind the first.
    assert [line["trainer/global_step"] for line in run.history] == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9]
    assert [line["_step"] for line in run.history] == list(range(12))
    assert (run.about["project"], run.about["groupName"], run.about["jobType"]) == (
        "minilm-lab",
        "trial",
        "distill",
    )
    assert run.config["student"]["value"] == {"layers": 3}

    asked = len(server.queries)
    again = lab.run("sync", where, env=env)
    assert again.code == 0 and again.out.startswith("0 to upload (2 uploaded)"), again.err
    assert len(server.queries) == asked

    # It was resumed once more: only what is new goes up, behind the rest.
    session(folder, 8, 12)
    assert lab.run("sync", where, env=env).code == 0
    assert [line["trainer/global_step"] for line in run.history][12:] == [8, 9, 10, 11]


def test_what_cannot_or_need_not_be_uploaded_is_told_apart(tmp_path: Path) -> None:
    def file(run: str, moment: str, size: int, marked: int | None = None) -> Path:
        identity = run.rpartition("-")[2]
        made = (
            tmp_path
            / "distill"
            / run
            / "wandb"
            / f"offline-run-{moment}-{identity}"
            / f"run-{identity}.wandb"
        )
        made.parent.mkdir(parents=True)
        made.write_bytes(b"x" * size)
        os.utime(made, (1000, 1000))
        if marked is not None:
            marker = made.with_suffix(".wandb.synced")
            marker.touch()
            os.utime(marker, (marked, marked))
        return made

    killed = file("a-0000000001", "20260101_000000", 7)
    fresh = file("a-0000000001", "20260101_000100", 900)
    there = file("b-0000000002", "20260101_000200", 900, marked=1001)
    grown = file("b-0000000002", "20260101_000300", 900, marked=999)
    first = file("c-0000000003", "20260101_000400", 900)
    writing = file("c-0000000003", "20260101_000500", 900)
    status(tmp_path / "distill" / "c-0000000003", "RUNNING", os.getpid())
    status(tmp_path / "distill" / "a-0000000001", "RUNNING", 2**22 + 5)  # its process is gone
    found = {one.file: one.state for one in sync.find(tmp_path)}
    assert found == {
        killed: "empty", fresh: "new", there: "uploaded", grown: "grown", first: "new", writing: "running"
    }  # fmt: skip
    assert [one.file for one in sync.find(tmp_path)] == sorted(found, key=lambda path: path.parent.name)
    assert [one.identity for one in sync.find(tmp_path, contains="B-00")] == ["0000000002"] * 2


def test_without_a_login_the_error_says_what_to_do(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "distill" / f"a-{IDENTITY}"
    offline = folder / "wandb" / f"offline-run-20260101_000000-{IDENTITY}"
    offline.mkdir(parents=True)
    (offline / f"run-{IDENTITY}.wandb").write_bytes(b"x" * 100)
    finished = lab.run("sync", f"paths.runs={tmp_path / 'runs'}", env=LOGGED_OUT)
    assert finished.code == 1 and "`wandb login`" in finished.err and "1 to upload" in finished.out
    dry = lab.run("sync", f"paths.runs={tmp_path / 'runs'}", "dry=true", env=LOGGED_OUT)
    assert dry.code == 0 and str(offline) in dry.out


def test_a_server_that_refuses_is_an_error_that_names_the_runs(lab: Lab, tmp_path: Path) -> None:
    offline = session(tmp_path / "runs" / "distill" / f"a-{IDENTITY}", 0, 2)
    (offline / f"run-{IDENTITY}.wandb").write_bytes(b"no log of W&B at all")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    env: dict[str, str | None] = {"WANDB_BASE_URL": url, "WANDB_API_KEY": "a" * 40, "WANDB_MODE": None}
    finished = lab.run("sync", f"paths.runs={tmp_path / 'runs'}", env=env)
    assert finished.code == 1 and "did not take 1" in finished.err and str(offline) in finished.err


class Api:
    """The part of `wandb.Api` that draws lineage."""

    default_entity = "somebody"

    def __init__(self, configs: dict[str, dict[str, Any]], artifacts: set[str]) -> None:
        self.configs, self.artifacts = configs, artifacts
        self.used: dict[str, list[str]] = {identity: [] for identity in configs}

    def run(self, path: str) -> Any:
        assert path.startswith("somebody/p/")
        identity = path.rpartition("/")[2]
        used = self.used[identity]
        return SimpleNamespace(
            config=self.configs[identity],
            used_artifacts=lambda: [SimpleNamespace(name=f"{name}:v0") for name in used],
            use_artifact=lambda artifact: used.append(artifact),
        )

    def artifact(self, path: str) -> str:
        name = path.removeprefix("somebody/p/").removesuffix(":latest")
        if name not in self.artifacts:
            raise wandb.errors.CommError(f"no {name}")
        return name


def test_lineage_is_drawn_once(caplog: pytest.LogCaptureFixture) -> None:
    configs: dict[str, dict[str, Any]] = {
        "tuned": {"command": "finetune", "lineage": {"uses": "student-one"}},
        "lost": {"command": "finetune", "lineage": {"uses": "student-gone"}},
        "table": {"command": "table", "runs": "tuned,other"},
        "student": {"command": "distill", "runs": "no"},
    }
    api = Api(configs, {"student-one", "score-tuned", "score-other"})
    for drawn in (3, 0):
        assert sync.link(["tuned", "lost", "table", "student", "tuned"], "p", None, api) == drawn
    assert api.used["tuned"] == ["student-one"] and api.used["table"] == ["score-tuned", "score-other"]
    assert api.used["lost"] == api.used["student"] == []
    assert "lost" in caplog.text
