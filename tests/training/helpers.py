"""What several tests of training need: metrics of a run, and a way to kill it at a step."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from lab import Lab, Running

CLOCK = ("time", "tokens_per_second")


def only_run(runs: Path, command: str) -> Path:
    """The folder of the only run of a command."""
    (folder,) = (runs / command).iterdir()
    return folder


def lines(run: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what a clock measured."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in found]


def column(run: Path, name: str) -> list[float]:
    """The values of one metric, in order."""
    return [line[name] for line in lines(run) if name in line]


def record(run: Path) -> dict[str, Any]:
    """result.json."""
    found = json.loads((run / "result.json").read_text())
    assert isinstance(found, dict)
    return found


def reached(runs: Path, command: str, step: int) -> bool:
    """Whether the journal of the only run of a command has come to a step."""
    files = list((runs / command).glob("*/metrics.jsonl")) if runs.exists() else []
    return bool(files) and any(
        json.loads(line)["step"] >= step for line in files[0].read_text().splitlines() if line.endswith("}")
    )


def kill_at(running: Running, runs: Path, command: str, step: int, number: int = signal.SIGKILL) -> None:
    """Send a signal when the journal has come to a step."""
    running.wait_until(lambda: reached(runs, command, step))
    running.signal(number)


def killed_beside_whole(lab: Lab, base: list[str], folder: Path) -> tuple[Path, Path]:
    """The runs of `distill` with the words `base`: one left alone, one killed at its ninth step and started again."""
    words = [word for word in base if not word.startswith("paths.runs")]
    whole, cut = folder / "whole", folder / "cut"
    done = lab.run("distill", *words, f"paths.runs={whole}")
    assert done.code == 0, done.err
    running = lab.start("distill", *words, f"paths.runs={cut}")
    kill_at(running, cut, "distill", 9)
    running.finish()
    assert lab.run("distill", *words, f"paths.runs={cut}").code == 0
    return only_run(whole, "distill"), only_run(cut, "distill")
