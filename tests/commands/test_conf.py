"""Every file of conf/ composes, builds its typed object, and says nothing that the object does not know."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from minilm_lab import config
from minilm_lab.commands.cli import COMMANDS
from minilm_lab.commands.composing import compose_command, conf_folder

GROUPS = (
    "adapter",
    "teacher",
    "student",
    "assistant",
    "objective",
    "head",
    "evaluator",
    "corpus",
    "task",
    "optim",
    "tune",
    "scale",
    "impl",
    "trainer",
    "logger",
    "paths",
)
#: Settings that a file leaves to the user.
OPEN = {"path": "somewhere", "against": "all_minilm_l6", "source": "all_minilm_l6"}
FILES = [
    file.relative_to(conf_folder())
    for file in sorted(conf_folder().glob("*/*.yaml"))
    if file.parent.name in GROUPS and not file.name.startswith("_")
]
EXPERIMENTS = sorted(file.stem for file in (conf_folder() / "experiment").glob("*.yaml"))


def fill(node: DictConfig) -> DictConfig:
    for key in [key for key in node if OmegaConf.is_missing(node, key)]:
        node[key] = OPEN[str(key)]
    return node


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_group_file_composes_and_builds(file: Path) -> None:
    if file.stem in ("tensorboard", "trackio"):
        pytest.importorskip(file.stem, reason=f"{file.stem} is an extra")
    group = file.parent.name
    node = fill(compose_command("finetune", [f"{group}={file.stem}"])[group])
    built = config.build(node, group)
    assert type(built) is config.locate(node["_target_"], group)
    # Hydra must not lose a setting on the way (a wrong package would put it elsewhere).
    assert all(key in node for key in OmegaConf.load(conf_folder() / file) if key != "defaults")


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_group_file_names_every_setting_or_leaves_it_to_the_class(file: Path) -> None:
    node = compose_command("finetune", [f"{file.parent.name}={file.stem}"])[file.parent.name]
    fields = {
        field.name: field for field in dataclasses.fields(config.locate(node["_target_"], "x")) if field.init
    }
    assert set(node) - {"_target_"} <= set(fields)
    if "name" in fields and file.stem != "path":
        assert str(node["name"]).replace("-", "_") == file.stem.replace("-", "_")


def test_every_group_is_known_here() -> None:
    folders = {folder.name for folder in conf_folder().iterdir() if folder.is_dir()}
    used = {key for command in COMMANDS for key in compose_command(command, [])}
    assert folders - set(GROUPS) - {"experiment"} <= used, "a group that no command uses"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_composes(command: str) -> None:
    assert compose_command(command, [])


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("command", ["distill", "finetune"])
def test_an_experiment_composes_and_builds(command: str, experiment: str) -> None:
    cfg = compose_command(command, [f"experiment={experiment}"])
    assert cfg.experiment_name == experiment
    for group in GROUPS:
        if group in compose_command(command, []):  # an experiment may set a task, which distill does not have
            config.build(fill(cfg[group]), group)


@pytest.mark.parametrize("overrides", [["scale.steps=5"], ["student.init.layers=uniform", "impl.threads=2"]])
def test_an_override_reaches_the_object(overrides: list[str]) -> None:
    cfg = compose_command("distill", overrides)
    for override in overrides:
        key, _, value = override.partition("=")
        group, _, rest = key.partition(".")
        built = config.build(cfg[group], group)
        for name in rest.split("."):
            built = getattr(built, name)
        assert str(built) == value
