"""One run on two processes: the same samples, the same loss and weights as on one, one record, and it resumes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lab import Lab
from safetensors.torch import load_file

from .helpers import column, kill_at, lines, only_run, record

TWO = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp"]


@pytest.mark.slow
def test_two_processes_are_one_with_the_same_global_batch(tiny: list[str], lab: Lab, tmp_path: Path) -> None:
    words = [*(w for w in tiny if not w.startswith("paths.runs")), "student.dropout=0"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert lab.run("distill", *words, f"paths.runs={one}").code == 0
    finished = lab.run("distill", *words, *TWO, f"paths.runs={two}")
    assert finished.code == 0, finished.err
    alone, shared = only_run(one, "distill"), only_run(two, "distill")
    assert alone.name == shared.name  # devices are not part of what is computed
    assert column(shared, "loss") == pytest.approx(column(alone, "loss"), rel=1e-4)
    assert column(shared, "held_out_loss") == pytest.approx(column(alone, "held_out_loss"), rel=1e-4)
    assert record(shared)["tokens_seen"] == record(alone)["tokens_seen"]
    first, second = (load_file(run / "student" / "model.safetensors") for run in (alone, shared))
    assert all(torch.allclose(first[name], second[name], atol=1e-4) for name in first)


@pytest.mark.slow
def test_a_run_killed_on_two_processes_goes_on_on_one(tiny: list[str], lab: Lab, tmp_path: Path) -> None:
    words = [w for w in tiny if not w.startswith(("paths.runs", "scale.steps"))]
    words += ["student.dropout=0", "scale.steps=30", "trainer.checkpoint_every=5"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert lab.run("distill", *words, f"paths.runs={one}").code == 0
    running = lab.start("distill", *words, *TWO, f"paths.runs={two}")
    kill_at(running, two, "distill", 12)
    running.finish()
    assert lab.run("distill", *words, f"paths.runs={two}").code == 0
    alone, resumed = only_run(one, "distill"), only_run(two, "distill")
    assert [line["step"] for line in lines(resumed)] == [line["step"] for line in lines(alone)]
    assert column(resumed, "loss") == pytest.approx(column(alone, "loss"), rel=1e-4)
