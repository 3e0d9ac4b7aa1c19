"""Weights & Biases offline: the run that its own reader finds is the run of the record."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lab import Lab
from omegaconf import OmegaConf

from .helpers import column, kill_at, only_run, record

#: Nobody is logged in, whoever runs the tests.
LOGGED_OUT: dict[str, str | None] = {"WANDB_API_KEY": None, "NETRC": "/dev/null", "WANDB_MODE": None}
OFFLINE: dict[str, str | None] = {"WANDB_MODE": "offline"}


@pytest.fixture
def words(tiny: list[str]) -> list[str]:
    return [*(word for word in tiny if not word.startswith("logger=")), "scale.steps=12"]


def offline_runs(folder: Path) -> list[Path]:
    return sorted(folder.glob("wandb/offline-run-*"))


def inspect(run: Path, *options: str) -> str:
    """What `wandb leet inspect --json` says of an offline run."""
    script = Path(sys.executable).with_name("wandb")
    words = [str(script), "leet", "inspect", "--json", *options, str(run)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def summary(run: Path) -> dict[str, Any]:
    """State, name, config and summary."""
    found = json.loads(inspect(run, "--summary"))
    assert isinstance(found, dict)
    return found


def start_of(run: Path) -> dict[str, Any]:
    """The record with which the run was opened: it has the group and the job type."""
    lines = (json.loads(line) for line in inspect(run).splitlines())
    (found,) = (line["run"] for line in lines if line["type"] == "run" and "run_id" in line["run"])
    assert isinstance(found, dict)
    return found


def test_an_offline_run_is_the_record(lab: Lab, words: list[str], tmp_path: Path) -> None:
    finished = lab.run("distill", *words, "experiment_name=trial", env=OFFLINE)
    assert finished.code == 0, finished.err
    folder = only_run(tmp_path / "runs", "distill")
    result = record(folder)
    (offline,) = offline_runs(folder)
    found = summary(offline)
    assert found["run_id"] == result["identity"]
    assert found["name"] == result["name"]
    assert found["state"] == "finished" and found["project"] == "minilm-lab"
    what = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml").what)
    assert {key: found["config"][key] for key in what} == what
    for name, value in {
        "loss": column(folder, "loss")[-1],
        "held_out_loss": result["held_out_loss"]["last"],
        "tokens_seen": result["tokens_seen"],
    }.items():
        assert found["summary"][name] == pytest.approx(value), name
    opened = start_of(offline)
    assert opened["job_type"] == "distill" and opened["run_group"] == "trial"


def test_a_fine_tuning_is_a_run_of_its_own(
    lab: Lab, words: list[str], tiny_tune: list[str], tmp_path: Path
) -> None:
    finished = lab.run("finetune", *words, *tiny_tune, env=OFFLINE)
    assert finished.code == 0, finished.err
    student, tuned = (only_run(tmp_path / "runs", command) for command in ("distill", "finetune"))
    (one,), (two,) = offline_runs(student), offline_runs(tuned)
    assert summary(one)["run_id"] == record(student)["identity"]
    assert start_of(two)["job_type"] == "finetune"
    found = summary(two)
    assert found["run_id"] == record(tuned)["identity"]
    assert found["summary"]["score/accuracy"] == pytest.approx(record(tuned)["scores"]["accuracy"])
    assert found["summary"]["dev/accuracy"] == pytest.approx(record(tuned)["scores"]["accuracy"])
    assert found["config"]["origin"]["run"] == record(student)["identity"]


def test_two_jobs_are_two_runs_and_the_missing_login_is_said_once(
    lab: Lab, words: list[str], tmp_path: Path
) -> None:
    finished = lab.run("distill", "-m", *words, "seed=0,1", env=LOGGED_OUT)
    assert finished.code == 0, finished.err
    assert finished.err.count("not logged in") == 1
    assert "wandb sync" in finished.err
    folders = list((tmp_path / "runs" / "distill").iterdir())
    assert len(folders) == 2
    for folder in folders:
        (offline,) = offline_runs(folder)
        found = summary(offline)
        assert found["run_id"] == record(folder)["identity"]
        assert found["state"] == "finished"
        assert found["config"]["seed"] == record(folder)["config"]["seed"]


def test_a_resumed_run_keeps_its_id(lab: Lab, words: list[str], tmp_path: Path) -> None:
    more = ["scale.steps=60", "trainer.checkpoint_every=5", "trainer.held_out_every=60"]
    running = lab.start("distill", *words, *more, env=OFFLINE)
    kill_at(running, tmp_path / "runs", "distill", 12, signal.SIGTERM)
    assert running.finish().code == 130
    finished = lab.run("distill", *words, *more, env=OFFLINE)
    assert finished.code == 0, finished.err
    folder = only_run(tmp_path / "runs", "distill")
    found = [summary(run) for run in offline_runs(folder)]
    assert len(found) == 2
    assert {run["run_id"] for run in found} == {record(folder)["identity"]}


@pytest.mark.parametrize("more", [[], ["logger=csv"]])
def test_disabled_or_csv_leaves_no_wandb_run(
    lab: Lab, words: list[str], tmp_path: Path, more: list[str]
) -> None:
    finished = lab.run("distill", *words, *more, env={"WANDB_MODE": "disabled"})
    assert finished.code == 0, finished.err
    folder = only_run(tmp_path / "runs", "distill")
    assert not offline_runs(folder)
    assert (folder / "csv" / "metrics.csv").is_file() == bool(more)
    assert len(column(folder, "loss")) == 12
