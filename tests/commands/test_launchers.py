"""Sweeps through Hydra's launchers: nothing is done twice, a failure stops nothing else and is named."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab import Lab

from minilm_lab.commands.launching import shares

ROWS = [
    {"key": "teacher", "title": "t", "overrides": ["source=teacher"], "control": True, "teacher": True},
    {"key": "none", "title": "n", "overrides": ["objective=none"], "control": True},
    {
        "key": "small",
        "title": "s",
        "overrides": [
            "student.depth_ratio=0.5",
            "student.width_ratio=0.5",
            "assistant=auto",
        ],
    },
    {"key": "broken", "title": "b", "overrides": ["tune.lr=1e30", "tune.warmup=0", "tune.clip=0"]},
]


def use_experiments(folder: Path) -> None:
    """Called in the process of the command: tables are looked for in a folder of the test."""
    from minilm_lab.commands.tables import spec

    spec.experiments_folder = lambda: folder


def results(runs: Path) -> dict[str, dict[str, Any]]:
    """Run folder -> record."""
    return {p.parent.name: json.loads(p.read_text()) for p in sorted(runs.glob("*/*/result.json"))}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_table_through_a_launcher(
    lab: Lab, tiny: list[str], tiny_tune: list[str], tmp_path: Path, launcher: str
) -> None:
    pytest.importorskip("submitit" if "submitit" in launcher else "joblib")
    spec = {
        "title": "T",
        "intro": "i",
        "rows": ROWS,
        "columns": [{"key": "a", "title": "A", "overrides": ["task.name=pets"], "metric": "accuracy"}],
    }
    (tmp_path / "experiments" / "t").mkdir(parents=True)
    (tmp_path / "experiments" / "t" / "table.yaml").write_text(yaml.safe_dump(spec))
    before = functools.partial(use_experiments, tmp_path / "experiments")
    words = ["name=t", *tiny, *tiny_tune, "scale.epochs=1", "scale.seeds=2", "scale.steps=6"]
    if launcher == "joblib":
        words += ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    else:
        words += ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"]
        words += [f"hydra.launcher.submitit_folder={tmp_path / 'submitit'}"]
    made = lab.run("table", *words, before=before, cwd=tmp_path, timeout=900)
    assert made.code == 1 and "Traceback" not in made.err.split("minilm-lab: ")[-1]
    assert "some runs failed" in made.err and made.err.count("not finite") >= 2, made.err[-3000:]
    found = results(tmp_path / "runs")
    kinds = [record["command"] for record in found.values()]
    # Distilled: assistant, small student, the broken row's student; "none" is a run as well.
    assert kinds.count("distill") == 4 and kinds.count("finetune") == 6
    # The assistant was made once, before its student, and no run was started twice.
    runs = tmp_path / "runs"
    for file in (runs / "distill").glob("*/metrics.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        steps = [line["step"] for line in lines if "loss" in line]
        assert steps == sorted(set(steps)), file.parent.name

    # The same command does only what is missing, and the same one without a launcher agrees.
    stamps = {path: path.stat().st_mtime_ns for path in runs.glob("*/*/result.json")}
    again = lab.run(
        "table", *words[: len(words) - (2 if launcher == "joblib" else 3)], before=before, cwd=tmp_path
    )
    assert again.code == 1
    assert {path: path.stat().st_mtime_ns for path in runs.glob("*/*/result.json")} == stamps


def test_the_failures_of_a_multirun_are_named_and_stop_no_other(
    lab: Lab, tiny: list[str], tmp_path: Path
) -> None:
    words = ["-m", *tiny, "teacher.layer=9,2,8", "scale.steps=4"]
    made = lab.run("distill", *words)
    assert made.code == 1
    message = made.err[made.err.rindex("minilm-lab: ") :]
    assert message.startswith("minilm-lab: 2 jobs failed")
    assert "teacher.layer=9 is outside 1..4" in message and "teacher.layer=8 is outside 1..4" in message
    assert "job 0 (" in message and "job 2 (" in message and "Traceback" not in message
    assert len(results(tmp_path / "runs")) == 1


@pytest.mark.parametrize(
    ("launcher", "expected"),
    [
        ({"_target_": "x.joblib_launcher.JoblibLauncher", "n_jobs": -1}, (None, 1)),
        ({"_target_": "x.joblib_launcher.JoblibLauncher", "n_jobs": 2}, (None, 4)),
        ({"_target_": "x.JoblibLauncher", "n_jobs": 20}, (None, 1)),
        ({"_target_": "x.submitit_launcher.LocalLauncher", "array_parallelism": 256}, (8, 1)),
        ({"_target_": "x.submitit_launcher.LocalLauncher", "array_parallelism": 2}, (2, 4)),
        ({"_target_": "x.submitit_launcher.SlurmLauncher", "array_parallelism": 256}, (None, "null")),
    ],
)
def test_jobs_share_the_cores(launcher: dict[str, Any], expected: tuple[Any, Any]) -> None:
    target = launcher["_target_"].replace("x.JoblibLauncher", "x.joblib.JoblibLauncher")
    assert shares({**launcher, "_target_": target}, cores=8) == expected
