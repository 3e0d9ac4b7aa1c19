"""Searching: Hydra's Optuna sweeper over real runs, and what docs/sweeps.md tells of W&B sweeps."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from lab import Lab
from omegaconf import OmegaConf
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from minilm_lab.commands.composing import compose_command, conf_folder
from minilm_lab.training import wandb_run
from minilm_lab.training.loggers import Wandb

DOCUMENT = conf_folder().parent / "docs" / "sweeps.md"


def results(runs: Path, command: str) -> dict[str, int]:
    """When each completed run wrote its result."""
    return {file.parent.name: file.stat().st_mtime_ns for file in (runs / command).glob("*/result.json")}


def best(runs: Path) -> dict[str, object]:
    found = OmegaConf.to_container(OmegaConf.load(runs / "multirun" / "optimization_results.yaml"))
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def test_optuna_maximises_a_score_and_goes_on_after_a_stop(
    lab: Lab, tiny: list[str], tiny_tune: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="hydra-optuna-sweeper is an extra")
    runs = tmp_path / "runs"
    words = [
        *("finetune", "-m", "hydra/sweeper=optuna", "hydra.sweeper.direction=maximize"),
        *("hydra.sweeper.n_jobs=1", "hydra.sweeper.sampler.seed=0", "source=teacher"),
        *(
            word
            for word in [*tiny, *tiny_tune]
            if not word.startswith(("tune.lr", "scale.epochs", "objective.heads"))
        ),
        *("scale.epochs=1", "tune.lr=tag(log,interval(1e-4,1e-2))", "tune.batch_size=choice(8,16)"),
    ]
    first = lab.run(*words, "hydra.sweeper.n_trials=2")
    assert first.code == 0, first.err
    before = results(runs, "finetune")
    assert len(before) == 2

    # The same suggestions again, answered from the records, and one more.
    finished = lab.run(*words, "hydra.sweeper.n_trials=3")
    assert finished.code == 0, finished.err
    after = results(runs, "finetune")
    assert len(after) == 3 and before.items() <= after.items()
    scores = [json.loads(f.read_text())["score"]["value"] for f in (runs / "finetune").glob("*/result.json")]
    assert best(runs)["best_value"] == pytest.approx(max(scores))
    (marked,) = [line for line in finished.out.splitlines() if line.endswith("*")]
    assert f"{max(scores):.4g} *" in marked and "best of 3" in finished.out


def test_optuna_minimises_the_held_out_loss(lab: Lab, tiny: list[str], tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="hydra-optuna-sweeper is an extra")
    runs = tmp_path / "runs"
    words = [word for word in tiny if not word.startswith(("optim.lr", "scale.steps"))]
    finished = lab.run(
        *("distill", "-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1"),
        *("hydra.sweeper.sampler.seed=0", *words, "scale.steps=4", "optim.lr=choice(1e-3,3e-3)"),
    )
    assert finished.code == 0, finished.err
    records = [json.loads(f.read_text()) for f in (runs / "distill").glob("*/result.json")]
    assert records
    losses = {record["config"]["optim"]["lr"]: record["held_out_loss"]["last"] for record in records}
    found = best(runs)
    assert found["best_value"] == pytest.approx(min(losses.values()))
    assert losses[found["best_params"]["optim.lr"]] == min(losses.values())  # type: ignore[index]


def test_the_wandb_sweep_of_the_document_composes() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    sweep = yaml.safe_load(block)
    assert sweep["method"] in ("grid", "random", "bayes") and sweep["metric"]["goal"] in (
        "maximize",
        "minimize",
    )
    assert sweep["project"] == Wandb().project
    record = {"score": {"name": "accuracy", "value": 80.0}, "scores": {"accuracy": 80.0}}
    assert sweep["metric"]["name"] in wandb_run.headline(record)
    *words, last = sweep["command"]
    assert words[:2] == ["minilm-lab", "finetune"] and last == "${args_no_hyphens}"
    for ends in ("min", "max"):
        chosen = {
            name: {"value": space["values"][0 if ends == "min" else -1] if "values" in space else space[ends]}
            for name, space in sweep["parameters"].items()
        }
        # As `wandb agent` writes them.
        overrides = create_sweep_command_args({"args": chosen})["args_no_hyphens"]
        cfg = compose_command("finetune", [*words[2:], *overrides])
        assert {name: OmegaConf.select(cfg, name) for name in chosen} == {
            n: v["value"] for n, v in chosen.items()
        }


def test_in_a_sweep_only_the_run_that_was_asked_for_is_mirrored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["minilm-lab finetune", "seed=0"])
    about = {"identity": "a" * 10, "name": "n", "experiment": "", "config": {}}
    for sweep, mirrored in ((None, 1), ("abc", 0)):
        if sweep:
            monkeypatch.setenv("WANDB_SWEEP_ID", sweep)
        monkeypatch.setenv("WANDB_MODE", "disabled")
        assert len(Wandb().build(tmp_path, {**about, "command": "finetune"})) == 1
        assert len(Wandb().build(tmp_path, {**about, "command": "distill"})) == mirrored


def test_relative_paths_mean_where_the_command_was_typed(lab: Lab, tiny: list[str], tmp_path: Path) -> None:
    """hydra.job.chdir=true changes into a folder of each job; runs have their own."""
    words = [word for word in tiny if not word.startswith(("paths.runs", "scale.steps", "optim.lr"))]
    words += ["scale.steps=1", "optim.lr=1e-3,2e-3", "paths.runs=mine", "hydra.job.chdir=true"]
    finished = lab.run("distill", "-m", *words, cwd=tmp_path)
    assert finished.code == 0, finished.err
    assert len(results(tmp_path / "mine", "distill")) == 2
    assert len(list(tmp_path.rglob("result.json"))) == 2
