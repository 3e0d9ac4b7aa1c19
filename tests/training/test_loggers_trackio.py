"""Trackio: the run that its own database holds is the run of the record."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import Lab

from .helpers import column, kill_at, only_run, record

pytest.importorskip("trackio", reason="extra `trackio` is not installed")


def logged(home: Path, project: str = "minilm-lab") -> dict[str, list[dict]]:
    """Run -> its lines, read in a process of its own: Trackio finds its folder when it is imported."""
    import json
    import os
    import subprocess
    import sys

    program = (
        "import json, trackio\n"
        "from trackio import SQLiteStorage as s\n"
        f"print(json.dumps({{r: s.get_logs({project!r}, r) for r in s.get_runs({project!r})}}, default=str))"
    )
    env = {**os.environ, "TRACKIO_DIR": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    found: dict[str, list[dict]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_killed_run_goes_on_as_one_run(lab: Lab, tiny: list[str], tmp_path: Path) -> None:
    words = [*(word for word in tiny if not word.startswith("logger=")), "logger=trackio", "scale.steps=12"]
    words += ["trainer.checkpoint_every=4"]
    env: dict[str, str | None] = {"TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    running = lab.start("distill", *words, env=env)
    kill_at(running, tmp_path / "runs", "distill", 7)
    running.finish()
    finished = lab.run("distill", *words, env=env)
    assert finished.code == 0, finished.err
    folder = only_run(tmp_path / "runs", "distill")
    [(name, lines)] = logged(tmp_path / "trackio").items()
    assert name == folder.name
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert list(losses.values())[-1] == pytest.approx(column(folder, "loss")[-1])
    assert max(losses) == 12
    [last] = [line["summary/held_out_loss"] for line in lines if "summary/held_out_loss" in line]
    assert last == pytest.approx(record(folder)["held_out_loss"]["last"])
