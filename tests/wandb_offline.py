"""Read back what W&B keeps offline, with its own reader."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def offline_runs(folder: Path) -> list[Path]:
    """The offline runs of a run's folder, oldest first."""
    return sorted(folder.glob("wandb/offline-run-*"))


def inspect(run: Path, *options: str) -> str:
    """What `wandb leet inspect --json` says of an offline run."""
    script = Path(sys.executable).with_name("wandb")
    words = [str(script), "leet", "inspect", "--json", *options, str(run)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def summary(run: Path) -> dict[str, Any]:
    """State, name, tags, config and summary."""
    found = json.loads(inspect(run, "--summary"))
    assert isinstance(found, dict)
    return found


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    """What the run's log holds of one kind: history, artifact, metric, …"""
    lines = (json.loads(line) for line in inspect(run).splitlines())
    return [line[kind] for line in lines if line["type"] == kind]


def start_of(run: Path) -> dict[str, Any]:
    """The record with which the run was opened: it has the group and the job type."""
    (found,) = (start for start in records(run, "run") if "run_id" in start)
    return found


class Api:
    """What `wandb.Api` answers, from files that were not uploaded."""

    def __init__(self, runs: Path) -> None:
        self.folders = sorted(runs.glob("*/*/wandb/offline-run-*"))
        self.asked = ""

    def runs(self, path: str, *, per_page: int, lazy: bool) -> list[Any]:
        self.asked = path
        assert not lazy, "one request a run"
        return [self._run(folder) for folder in self.folders]

    def _run(self, folder: Path) -> Any:
        told = summary(folder)
        return SimpleNamespace(
            id=told["run_id"],
            name=told["name"],
            state={"finished": "finished"}.get(told["state"], "crashed"),
            config=told["config"],
            summary_metrics=told["summary"],
            job_type=start_of(folder)["job_type"],
            created_at=told["start_time"],
            heartbeat_at=told["last_write"],
            scan_history=lambda: [line["item"] for line in records(folder, "history")],
        )
