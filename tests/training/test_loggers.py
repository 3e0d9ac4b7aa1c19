"""Weights & Biases offline: the run that its own reader finds is the run of the record."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import wandb
from lab import Lab
from wandb_offline import offline_runs, start_of, summary

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.distill import plan
from minilm_lab.runs import wandb_access
from minilm_lab.training.loggers import Wandb

from .helpers import column, kill_at, only_run, record

#: Nobody is logged in, whoever runs the tests.
LOGGED_OUT: dict[str, str | None] = {"WANDB_API_KEY": None, "NETRC": "/dev/null", "WANDB_MODE": None}
OFFLINE: dict[str, str | None] = {"WANDB_MODE": "offline"}


@pytest.fixture
def words(tiny: list[str]) -> list[str]:
    return [*(word for word in tiny if not word.startswith("logger=")), "scale.steps=12"]


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
    what, config = result["config"], found["config"]
    assert config["student"]["layers"] == what["student"]["layers"] == 2
    assert config["objective"]["relations"] == "qq,kk,vv" and what["objective"]["relations"] == [
        "qq",
        "kk",
        "vv",
    ]
    assert config["seed"] == 0 and config["experiment"] == "trial" and config["command"] == "distill"
    assert config["how"]["impl"]["precision"] == "32"
    for name in ("loss", "held_out_loss"):
        values = column(folder, name)
        told = found["summary"][name]
        assert told == {"min": pytest.approx(min(values)), "last": pytest.approx(values[-1])}, name
    assert found["summary"]["tokens_seen"] == result["tokens_seen"]
    assert "trial" in found["tags"]
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
    history = [epoch["accuracy"] for epoch in record(tuned)["history"]]
    assert found["summary"]["dev/accuracy"] == {
        "max": pytest.approx(max(history)),
        "last": pytest.approx(history[-1]),
    }
    config = found["config"]
    assert config["source"] == {"kind": "run", "run": record(student)["identity"]}
    assert config["lineage"]["uses"] == f"student-{record(student)['identity']}"
    # Its student's settings, in full, under the names that the student's own run has.
    assert config["student"]["layers"] == 2 and config["teacher"]["layer"] == 4
    assert config["objective"]["heads"] == 12 and config["task"]["name"] == "classification"
    assert config["distillation"]["seed"] == config["seed"] == 0
    assert {"classification", "qq.kk.vv-12"} <= set(found["tags"])


def test_two_jobs_are_two_runs_and_the_missing_login_is_said_once(
    lab: Lab, words: list[str], tmp_path: Path
) -> None:
    finished = lab.run("distill", "-m", *words, "seed=0,1", env=LOGGED_OUT)
    assert finished.code == 0, finished.err
    assert finished.err.count("not logged in") == 1
    assert "minilm-lab sync paths.runs=" in finished.err
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
    assert running.finish().code == 143
    finished = lab.run("distill", *words, *more, env=OFFLINE)
    assert finished.code == 0, finished.err
    folder = only_run(tmp_path / "runs", "distill")
    found = [summary(run) for run in offline_runs(folder)]
    assert len(found) == 2
    assert {run["run_id"] for run in found} == {record(folder)["identity"]}
    # The best is that of all sessions.
    losses = column(folder, "loss")
    assert found[-1]["summary"]["loss"] == {
        "min": pytest.approx(min(losses)),
        "last": pytest.approx(losses[-1]),
    }


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


def test_what_wandbs_users_set_counts(lab: Lab, words: list[str], tmp_path: Path) -> None:
    given = {
        "WANDB_PROJECT": "mine",
        "WANDB_NAME": "first try",
        "WANDB_RUN_GROUP": "tries",
        "WANDB_DIR": str(tmp_path),
    }
    finished = lab.run("distill", *words, env={**OFFLINE, **given})
    assert finished.code == 0, finished.err
    (offline,) = offline_runs(only_run(tmp_path / "runs", "distill"))
    found, opened = summary(offline), start_of(offline)
    assert (found["project"], found["name"], opened["run_group"]) == ("mine", "first try", "tries")
    assert "WANDB_DIR is passed over" in finished.err
    assert not list(tmp_path.glob("wandb/*"))
    named = Wandb(project="another")
    assert named.project == "another"


def test_a_server_that_does_not_answer_ends_no_training(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """W&B's own error at the first opening; afterwards the run is kept offline."""
    real, asked = wandb.init, []

    def init(**settings: Any) -> Any:
        asked.append(settings.get("mode"))
        if settings.get("mode") != "offline":
            raise wandb.errors.CommError("context deadline exceeded")
        return real(**settings)

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb_access, "logged_in", lambda: True)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = plan(compose_command("distill", words))
    run.make()
    assert asked == ["online", "offline"]
    assert "this run is kept offline" in caplog.text
    assert offline_runs(run.folder.path)


def test_a_home_that_cannot_be_written_to_is_told_once(lab: Lab, words: list[str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("a file")
    finished = lab.run(
        *("distill", *words),
        env={**OFFLINE, "HOME": str(home), "TMPDIR": str(tmp_path), "MPLCONFIGDIR": None},
    )
    assert finished.code == 0, finished.err
    lines = [line for line in finished.err.splitlines() if str(home) in line]
    assert len(lines) == 1 and "cannot be written to: libraries keep their caches" in lines[0], finished.err
    assert "server: " not in finished.err and "Matplotlib created" not in finished.err
