"""Jobs on a real Slurm cluster of one node: at once, cancelled, pre-empted and queued again; what they share is made once."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands.test_launchers import use_experiments
from lab import Lab
from training.helpers import column, lines, only_run, reached, record

from .cluster import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
SLURM = ["hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=30"]
#: Long enough to be caught in the middle.
LONG = ["scale.steps=600", "trainer.checkpoint_every=200", "trainer.log_every=5"]


def long(tiny: list[str]) -> list[str]:
    return [w for w in tiny if not w.startswith(("scale.steps", "trainer.log_every"))] + LONG


def status(run: Path) -> dict[str, Any]:
    found = json.loads((run / "status.json").read_text())
    assert isinstance(found, dict)
    return found


def undisturbed(lab: Lab, words: list[str], tmp_path: Path) -> list[dict[str, Any]]:
    """The metrics of the same run, never stopped and not in Slurm; of several tests the first makes it."""
    runs = tmp_path.parent / "undisturbed"
    done = lab.run("distill", *words, f"paths.runs={runs}")
    assert done.code == 0, done.err
    return lines(only_run(runs, "distill"))


def test_an_array_of_two_jobs_at_once_that_share_a_student(
    cluster: Cluster, lab: Lab, tiny: list[str], tiny_tune: list[str], tmp_path: Path
) -> None:
    words = ["-m", *tiny, *tiny_tune, *SLURM, "hydra.launcher.partition=normal", "tune.seed=0,1"]
    done = lab.run("finetune", *words, cwd=tmp_path, env=cluster.settings)
    assert done.code == 0, done.err
    # What came out stands at the end, and no look at the queue is complained about.
    assert "mean ± sd over seeds" in done.out and "again: minilm-lab runs multirun=" in done.out
    assert "sacct" not in done.err, done.err
    first, second = cluster.jobs().values()
    assert first["ArrayJobId"] == second["ArrayJobId"], "an array"
    assert max(first["StartTime"], second["StartTime"]) < min(first["EndTime"], second["EndTime"]), "at once"
    student, tuned = only_run(tmp_path / "runs", "distill"), tmp_path / "runs" / "finetune"
    assert [line["step"] for line in lines(student) if "loss" in line] == list(range(1, 17)), "made once"
    assert {record(run)["identity"] for run in tuned.iterdir()} == {run.name[-10:] for run in tuned.iterdir()}
    assert len(list(tuned.iterdir())) == 2


def test_a_table(cluster: Cluster, lab: Lab, tiny: list[str], tiny_tune: list[str], tmp_path: Path) -> None:
    spec = {
        "title": "T",
        "intro": "i",
        "rows": [
            {
                "key": "teacher",
                "title": "t",
                "overrides": ["source=teacher"],
                "control": True,
                "teacher": True,
            },
            {"key": "student", "title": "s", "overrides": []},
        ],
        "columns": [{"key": "a", "title": "A", "overrides": ["task.name=pets"], "metric": "accuracy"}],
    }
    (tmp_path / "experiments" / "t").mkdir(parents=True)
    (tmp_path / "experiments" / "t" / "table.yaml").write_text(yaml.safe_dump(spec))
    words = ["name=t", *tiny, *tiny_tune, *SLURM, "scale.seeds=1", "hydra.launcher.partition=normal"]
    before = functools.partial(use_experiments, tmp_path / "experiments")
    done = lab.run("table", *words, before=before, cwd=tmp_path, env=cluster.settings)
    assert done.code == 0, done.err
    assert "sacct" not in done.err, done.err
    assert len(list((tmp_path / "runs").glob("finetune/*/result.json"))) == 2
    assert record(only_run(tmp_path / "runs", "distill"))["command"] == "distill"


def test_one_of_two_jobs_is_cancelled_and_started_again(
    cluster: Cluster, lab: Lab, tiny: list[str], tmp_path: Path
) -> None:
    runs, before = tmp_path / "runs" / "distill", set(cluster.jobs())
    words = ["-m", *long(tiny), *SLURM, "hydra.launcher.partition=normal", "teacher.layer=4,3"]
    running = lab.start("distill", *words, cwd=tmp_path, env=cluster.settings)

    def both() -> bool:
        return len(list(runs.glob("*/metrics.jsonl"))) == 2

    running.wait_until(both)
    job = sorted(set(cluster.jobs()) - before)[0]
    assert job.endswith("_0")
    cluster.ask("scancel", job)
    done = running.finish()
    assert done.code == 1 and f"Slurm ended job {job} (cancelled)" in done.err, done.err
    assert "again: minilm-lab runs multirun=" in done.out or done.out == ""
    (cancelled,) = [run for run in runs.iterdir() if not (run / "result.json").exists()]
    assert "layer: 4" in (cancelled / "config.yaml").read_text(), "the first job"
    stamps = {path: path.stat().st_mtime_ns for path in runs.glob("*/result.json")}
    # SIGTERM came before the end: there is a checkpoint of the step that it came at.
    saved = max(int(path.stem[-9:]) for path in (cancelled / "checkpoints").glob("*.ckpt"))
    assert saved > 0

    again = lab.run("distill", *words, cwd=tmp_path, env=cluster.settings)
    assert again.code == 0, again.err
    assert "held-out loss" in again.out
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps, "the other is not done again"
    assert lines(cancelled) == undisturbed(lab, long(tiny), tmp_path)


def test_a_job_is_pre_empted_and_goes_on_under_the_same_identity(
    cluster: Cluster, lab: Lab, tiny: list[str], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    words = ["-m", *long(tiny), *SLURM, "hydra.launcher.partition=low", "hydra.launcher.cpus_per_task=8"]
    running = lab.start("distill", *words, cwd=tmp_path, env=cluster.settings)
    running.wait_until(lambda: reached(runs, "distill", 20))
    run = only_run(runs, "distill")
    urgent = cluster.run_urgently("sleep 2")
    running.wait_until(lambda: status(run)["state"] == "INTERRUPTED")
    assert status(run)["error"] == "queued again: it goes on from its checkpoint"
    stopped = lines(run)[-1]["step"]
    assert 20 <= stopped < 600 and (run / "checkpoints" / f"step-{stopped:09d}.ckpt").exists()
    listed = lab.run("runs", f"paths.runs={runs}")
    assert "INTERRUPTED" in listed.out and "queued again" in listed.out
    done = running.finish()
    assert done.code == 0, done.err
    assert cluster.jobs()[urgent]["JobState"] == "COMPLETED"
    assert only_run(runs, "distill") == run and record(run)["identity"] == run.name[-10:]
    logs = "".join(path.read_text() for path in (tmp_path / "runs").rglob("*_log.err"))
    assert f"resuming {run.name} from step {stopped} of 600" in logs
    assert "Traceback" not in logs
    assert lines(run) == undisturbed(lab, long(tiny), tmp_path)


def test_two_tasks_of_srun_are_one_run(cluster: Cluster, lab: Lab, tiny: list[str], tmp_path: Path) -> None:
    words = [*(w for w in tiny if not w.startswith("paths.runs")), "student.dropout=0"]
    shared = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp"]
    srun = ["srun", "--partition=normal", "--ntasks=2", "--ntasks-per-node=2", "--label", sys.executable]
    command = [*srun, "-m", "minilm_lab", "distill", *words, *shared, f"paths.runs={tmp_path / 'two'}"]
    made = subprocess.run(
        command,
        env={**cluster.env, **cluster.settings},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert made.returncode == 0, made.stderr
    alone = lab.run("distill", *words, f"paths.runs={tmp_path / 'one'}")
    assert alone.code == 0, alone.err
    run, other = only_run(tmp_path / "two", "distill"), only_run(tmp_path / "one", "distill")
    assert run.name == other.name
    assert column(run, "loss") == pytest.approx(column(other, "loss"), rel=1e-4)
    # Each is one half of every batch: alone, both would have seen all of it.
    assert record(run)["tokens_seen"] == record(other)["tokens_seen"]
