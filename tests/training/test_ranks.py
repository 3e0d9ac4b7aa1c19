"""One run on two processes: the same samples, the same loss and weights as on one, one record, and it resumes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from lab import Lab
from safetensors.torch import load_file

from .helpers import column, kill_at, lines, only_run, record

SHARED_OUT = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=fsdp"]
TWO = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp"]


@pytest.mark.slow
@pytest.mark.parametrize("how", [TWO, SHARED_OUT], ids=["ddp", "fsdp"])
def test_two_processes_are_one_with_the_same_global_batch(
    tiny: list[str], lab: Lab, tmp_path: Path, how: list[str]
) -> None:
    words = [*(w for w in tiny if not w.startswith("paths.runs")), "student.dropout=0"]
    words.append("optim.weight_decay=5")  # so much that it would be seen if other parameters had it
    one, two = tmp_path / "one", tmp_path / "two"
    assert lab.run("distill", *words, f"paths.runs={one}").code == 0
    finished = lab.run("distill", *words, *how, f"paths.runs={two}")
    assert finished.code == 0, finished.err
    alone, shared = only_run(one, "distill"), only_run(two, "distill")
    assert alone.name == shared.name  # devices are not part of what is computed
    assert column(shared, "loss") == pytest.approx(column(alone, "loss"), rel=1e-4)
    assert column(shared, "held_out_loss") == pytest.approx(column(alone, "held_out_loss"), rel=1e-4)
    assert record(shared)["tokens_seen"] == record(alone)["tokens_seen"]
    first, second = (load_file(run / "student" / "model.safetensors") for run in (alone, shared))
    assert all(torch.allclose(first[name], second[name], atol=1e-4) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then"),
    [(TWO, []), (SHARED_OUT, []), ([], SHARED_OUT)],
    ids=["ddp then one", "fsdp then one", "one then fsdp"],
)
def test_a_run_killed_on_so_many_processes_goes_on_on_others(
    tiny: list[str], lab: Lab, tmp_path: Path, first: list[str], then: list[str]
) -> None:
    words = [w for w in tiny if not w.startswith(("paths.runs", "scale.steps"))]
    words += ["student.dropout=0", "scale.steps=30", "trainer.checkpoint_every=5"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert lab.run("distill", *words, f"paths.runs={one}").code == 0
    running = lab.start("distill", *words, *first, f"paths.runs={two}")
    kill_at(running, two, "distill", 12)
    running.finish()
    finished = lab.run("distill", *words, *then, f"paths.runs={two}")
    assert finished.code == 0 and "from step 10" in finished.err, finished.err
    alone, resumed = only_run(one, "distill"), only_run(two, "distill")
    assert [line["step"] for line in lines(resumed)] == [line["step"] for line in lines(alone)]
    assert column(resumed, "loss") == pytest.approx(column(alone, "loss"), rel=1e-4)


@pytest.mark.slow
def test_a_student_and_its_fine_tuning_on_two_processes(
    tiny: list[str], tiny_tune: list[str], tiny_teacher: Path, tiny_task: Path, lab: Lab, tmp_path: Path
) -> None:
    """Two runs of one command; both processes predict the dev split, one runs the evaluator: as on one."""
    teacher = shutil.copytree(tiny_teacher, tmp_path / "still")
    config = json.loads((teacher / "config.json").read_text())
    still = {name: 0.0 for name in config if name.endswith("dropout_prob")}
    (teacher / "config.json").write_text(json.dumps(config | still))
    knn = ["evaluator=knn", "task@evaluator.task=classification", f"evaluator.task.path={tiny_task}"]
    knn += ["evaluator.k=3", "evaluator.length=32", "evaluator.task.length=32"]
    words = [w for w in tiny if not w.startswith(("paths.runs", "teacher.path"))]
    words += [f"teacher.path={teacher}", *knn, *tiny_tune]
    records, outputs = [], []
    for name, more in (("one", []), ("two", TWO)):
        finished = lab.run("finetune", *words, *more, f"paths.runs={tmp_path / name}")
        assert finished.code == 0, finished.err
        tuned = only_run(tmp_path / name, "finetune")
        records.append((record(only_run(tmp_path / name, "distill")), record(tuned)))
        rows = [json.loads(line) for line in (tuned / "predictions.jsonl").read_text().splitlines()]
        outputs.append([value for row in rows for value in row["outputs"]])
    (student, tuning), (shared_student, shared_tuning) = records
    assert shared_student["evaluation"]["first"] == student["evaluation"]["first"]
    assert outputs[1] == pytest.approx(outputs[0], abs=2e-3)
    assert shared_tuning["examples"] == tuning["examples"]


@pytest.mark.parametrize(
    "left",
    [
        {"RANK": "1"},
        {"LOCAL_RANK": "2", "WORLD_SIZE": "4"},
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "2"},
        {
            "SLURM_JOB_ID": "7",
            "SLURM_NTASKS": "4",
            "SLURM_STEP_ID": "0",
            "SLURM_STEP_NUM_TASKS": "4",
            "SLURM_PROCID": "2",
        },
    ],
)
def test_what_an_allocation_or_a_shell_left_makes_no_follower(
    left: dict[str, str], tiny: list[str], lab: Lab, tmp_path: Path
) -> None:
    """A run on one device works alone, whatever the environment says, and leaves its record."""
    words = ["distill", *(w for w in tiny if not w.startswith("scale.steps")), "scale.steps=4"]
    finished = lab.run(*words, env=left)
    assert finished.code == 0, finished.err
    assert record(only_run(tmp_path / "runs", "distill"))["command"] == "distill"
    if "SLURM_JOB_NAME" not in left:
        assert finished.err.count("this process works alone") == 1
