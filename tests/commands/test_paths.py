"""What the shell passes as one word for a setting that is a path is that path."""

from __future__ import annotations

from pathlib import Path

import pytest

from minilm_lab.commands.composing import compose_command, expand

NAMES = [
    "a b",
    "a,b",
    "a=b",
    "a (1)",
    "[x]",
    "{y: 1}",
    "é猫",
    "it's",
    'say "x"',
    "a:b",
    "#1",
    "back\\slash",
    "tail\\",
    "%1",
    "null",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["corpus.path", "paths.runs", "source"])
def test_a_path_is_a_path(name: str, key: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    command = "finetune" if key == "source" else "distill"
    words = ["corpus=path", "corpus.path=x"] if key == "corpus.path" else []
    cfg = compose_command(command, [*words, f"{key}={folder}"])
    group, _, last = key.rpartition(".")
    assert (cfg[group] if group else cfg)[last] == str(folder)


def test_what_cannot_be_parsed_is_a_path_that_is_not_there(tmp_path: Path) -> None:
    cfg = compose_command("distill", ["corpus=path", f"corpus.path={tmp_path}/no such (folder)"])
    assert cfg.corpus.path == f"{tmp_path}/no such (folder)"


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compose_command("distill", ["paths.runs=~/runs"]).paths.runs == f"{tmp_path}/runs"


def test_what_is_meant_for_hydra_stays() -> None:
    words = [
        "source=one,two",
        "paths.hub=null",
        "corpus.path='quoted'",
        "teacher.path=${paths.hub}/x",
        "optim.lr=1e-3",
    ]
    assert expand(words) == words


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("task.extra_splits={test: test}", {"test": "test"}),
        ("task.extra_splits={a: 'x, y.csv', b: two words}", {"a": "x, y.csv", "b": "two words"}),
        ("task.extra_splits={}", {}),
    ],
)
def test_a_mapping_on_the_command_line(word: str, expected: dict[str, str]) -> None:
    cfg = compose_command("finetune", ["task=classification", "task.path=x", word])
    assert dict(cfg.task.extra_splits) == expected


def test_names_with_dots_in_a_mapping_are_settings() -> None:
    cfg = compose_command("table", ["name=demo", "choose={tune.lr:[1e-4,2e-4]}"])
    assert dict(cfg.choose) == {"tune.lr": [1e-4, 2e-4]}
