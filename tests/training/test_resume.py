"""A run that was killed or interrupted ends with what an undisturbed one ends with, bit for bit."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from lab import Lab

from .helpers import kill_at, lines, only_run


def disturbed(
    lab: Lab, words: Sequence[str], runs: Path, kills: Sequence[int], number: int = signal.SIGKILL
) -> list[str]:
    """Run a command that is killed at each of these steps, then let it finish; what the last one said."""
    for step in kills:
        running = lab.start(*words, f"paths.runs={runs}")
        kill_at(running, runs, words[0], step, number)
        assert running.finish().code == (-number if number == signal.SIGKILL else 130)
        assert not (only_run(runs, words[0]) / "result.json").exists(), "killed too late"
    finished = lab.run(*words, f"paths.runs={runs}")
    assert finished.code == 0, finished.err
    return finished.err.splitlines()


def same_training(one: Path, other: Path, steps: int) -> None:
    assert lines(one) == lines(other)
    losses = [line["step"] for line in lines(other) if "loss" in line]
    assert losses == list(range(1, steps + 1)), "a gap or a double line"


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_distillation_killed_thrice_ends_bit_for_bit_like_one_never_killed(
    lab: Lab, tiny: list[str], tmp_path: Path, workers: int
) -> None:
    words = ["distill", *tiny, "student.dropout=0.1", "scale.steps=40", f"impl.workers={workers}"]
    words += ["trainer.accumulate=2", "trainer.checkpoint_every=10", "trainer.held_out_every=4"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finished = lab.run(*words, f"paths.runs={whole}")
    assert finished.code == 0, finished.err
    said = disturbed(lab, words, killed, kills=[12, 14, 27])
    assert any("resuming" in line and "of 40" in line for line in said)

    one, other = only_run(whole, "distill"), only_run(killed, "distill")
    assert one.name == other.name
    same_training(one, other, 40)
    weights = Path("student") / "model.safetensors"
    assert (one / weights).read_bytes() == (other / weights).read_bytes()
    records = [json.loads((run / "result.json").read_text()) for run in (one, other)]
    for name in ("loss", "held_out_loss", "tokens_seen", "steps", "identity"):
        assert records[0][name] == records[1][name]
    assert records[0]["corpus"]["blocks"] * 2 < 40 * 8, "no epoch ended within the run"


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_fine_tuning_killed_in_its_second_epoch_ends_the_same(
    lab: Lab, tiny: list[str], tiny_tune: list[str], tmp_path: Path, workers: int
) -> None:
    words = ["finetune", *tiny, *tiny_tune, "source=teacher", f"impl.workers={workers}"]
    words += ["trainer.checkpoint_every=5", "tune.select=best", "tune.save_model=true", "tune.batch_size=2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finished = lab.run(*words, f"paths.runs={whole}")
    assert finished.code == 0, finished.err
    disturbed(lab, words, killed, kills=[28, 36])

    one, other = only_run(whole, "finetune"), only_run(killed, "finetune")
    same_training(one, other, 50)
    assert [line["step"] for line in lines(other) if "dev" in line] == [25, 50]
    for file in ("predictions.jsonl", "model/model.safetensors"):
        assert (one / file).read_bytes() == (other / file).read_bytes()
    records = [json.loads((run / "result.json").read_text()) for run in (one, other)]
    for name in ("scores", "history", "selection", "tokens_seen"):
        assert records[0][name] == records[1][name]


def test_an_interrupted_run_says_so_and_resumes(lab: Lab, tiny: list[str], tmp_path: Path) -> None:
    words = ["distill", *tiny, "scale.steps=60", "trainer.checkpoint_every=5", "trainer.held_out_every=60"]
    runs = tmp_path / "runs"
    running = lab.start(*words)
    kill_at(running, runs, "distill", 12, signal.SIGINT)
    finished = running.finish()
    assert finished.code == 130
    assert "Traceback" not in finished.err
    assert "interrupted; start the same command again" in finished.err
    status = json.loads((only_run(runs, "distill") / "status.json").read_text())
    assert status["state"] == "INTERRUPTED"
    assert "interrupted" in status["error"]

    again = lab.run(*words)
    assert again.code == 0, again.err
    assert "resuming" in again.err
    assert [line["step"] for line in lines(only_run(runs, "distill")) if "loss" in line] == list(range(1, 61))
