"""Configs of many cells, composed choice by choice, are those that Hydra composes of all their words at once."""

from __future__ import annotations

import random
from typing import Any

import pytest
from omegaconf import OmegaConf

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.tables import composition
from minilm_lab.commands.tables.composition import Composer
from minilm_lab.commands.tables.planning import cell_words, settings_of
from minilm_lab.commands.tables.spec import known_tables, read_spec
from minilm_lab.errors import LabError


def plain(cfg: Any) -> Any:
    return OmegaConf.to_container(cfg, resolve=False)


def cells() -> list[tuple[list[str], tuple[str, ...]]]:
    """Words and setting of every cell of every table at every scale."""
    found = []
    for name in known_tables():
        table = read_spec(name)
        for scale in table.at or [None]:
            spec = table if scale is None else table.at_scale(scale)
            words = spec.words([] if scale is None else [f"scale={scale}"])
            for row in spec.rows:
                for column in spec.columns:
                    chosen = column.choose if spec.choose and column.choose is not None else spec.choose
                    found += [(cell_words(words, row, column), setting) for setting in settings_of(chosen)]
    return found


def test_the_cells_of_the_tables_are_composed_as_hydra_does() -> None:
    composer = Composer("finetune")
    for words, setting in random.Random(7).sample(cells(), 25):
        ((_, cfg),) = composer.variants(words, [setting])
        assert plain(cfg) == plain(compose_command("finetune", [*words, *setting])), (words, setting)
        assert OmegaConf.is_struct(cfg)


@pytest.mark.parametrize(
    "words",
    [
        ["optim.lr=1e-3", "optim=distill", "optim.lr=2e-3", "teacher.layer=-1"],
        ["source='a b'", "experiment=papers", "seed=3", "objective.relations=[qq,vv]"],
        ["objective=[minilmv2,mlm_kd]", "scale=demo"],
        ["+objective.extra=1", "student=half_depth"],
        ["task=sst2", "task=mnli", "~task.submissions"],
        ["scale=demo", "optim.lr=${tune.lr}"],
    ],
)
def test_words_of_other_kinds(words: list[str]) -> None:
    assert plain(Composer("finetune").compose(words)) == plain(compose_command("finetune", words))


@pytest.mark.parametrize(
    "words",
    [["teacher=bert_bse"], ["optim.lrr=1"], ["scale.steps=[1"], ["teacher=5"], ["nothing=1"], ["a.b.c=1"]],
)
def test_what_is_wrong_is_said_in_the_same_words(words: list[str]) -> None:
    with pytest.raises(LabError) as expected:
        compose_command("finetune", words)
    with pytest.raises(LabError) as error:
        Composer("finetune").compose(["scale=demo", *words])
    assert str(error.value) == str(expected.value)


def test_a_choice_is_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def compose(command: str, words: list[str]) -> Any:
        calls.append(list(words))
        return compose_command(command, words)

    monkeypatch.setattr(composition, "compose_command", compose)
    composer = Composer("finetune")
    for student in ("half_depth", "l6_h384"):
        for task in ("sst2", "mnli"):
            settings = [(f"tune.lr={rate}", "scale.epochs=3") for rate in (1e-5, 2e-5)]
            rates = [
                cfg.tune.lr for _, cfg in composer.variants([f"student={student}", f"task={task}"], settings)
            ]
            assert rates == [1e-5, 2e-5]
    assert calls == [[], ["student=half_depth", "task=sst2"], ["task=mnli"], ["student=l6_h384"]]
    # A choice among the settings is one like any other.
    settings = [("tune=default",), ("tune=squad",)]
    assert [c.tune.lr for _, c in composer.variants(["task=sst2"], settings)] == [
        compose_command("finetune", [*setting]).tune.lr for setting in settings
    ]
