"""The papers' grids as Hydra multiruns."""

from __future__ import annotations

import itertools

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from minilm_lab.commands.composing import compose_command, conf_folder


def jobs(experiment: str) -> list[dict[str, str]]:
    """What Hydra's own sweeper makes of an experiment's grid: the overrides of each job."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3", job_name="finetune"):
        words = [f"experiment={experiment}", "hydra.run.dir=.", "hydra.job.name=finetune"]
        cfg = compose("finetune", overrides=words, return_hydra_config=True)
    given = [f"{key}={value}" for key, value in cfg.hydra.sweeper.params.items()]
    (batch,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(given), None)
    return [dict(word.split("=") for word in job) for job in batch]


def test_the_grid_of_glue() -> None:
    names = ("tune.lr", "scale.epochs", "tune.seed")
    found = [tuple(float(job[name]) for name in names) for job in jobs("glue_papers")]
    assert len(found) == 48
    assert set(found) == set(itertools.product((2e-5, 3e-5, 4e-5, 5e-5), (3, 4, 5), (0, 1, 2, 3)))


def test_the_grid_of_xnli() -> None:
    assert [float(job["tune.lr"]) for job in jobs("xnli_papers")] == [3e-5, 4e-5, 5e-5, 6e-5]


@pytest.mark.parametrize("words", [["experiment=glue_papers"], ["tune=papers", "scale.epochs=3"]])
def test_one_cell_without_a_multirun(words: list[str]) -> None:
    cfg = compose_command("finetune", [*words, "task=cola"])
    assert (cfg.tune.lr, cfg.tune.batch_size, cfg.scale.epochs, cfg.task.length) == (3e-5, 32, 3, 128)


def test_one_cell_of_xnli() -> None:
    cfg = compose_command("finetune", ["experiment=xnli_papers", "task=xnli"])
    assert (cfg.tune.batch_size, cfg.scale.epochs, cfg.tune.select) == (128, 5, "best")
    assert len(cfg.task.languages) == 15 and cfg.task.test_split == "test"
