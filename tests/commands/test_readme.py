"""What README.md, CONTRIBUTING.md and the documentation tell to type is there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ValueType

from minilm_lab.commands.cli import COMMANDS
from minilm_lab.commands.composing import compose_command, of_command

ROOT = Path(__file__).parents[2]


def typed() -> list[str]:
    """Every command line of a fenced block, with continuation lines joined and comments left out."""
    found: list[str] = []
    for file in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = file.read_text(encoding="utf-8")
        for block in re.findall(r"^```(?:bash|sh|console|shell)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r"&&|;", line.removeprefix("$ ")):
                    words = shlex.split(part, comments=True)
                    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                        words.pop(0)
                    if words and words[0].rpartition("/")[2] in ("make", "minilm-lab"):
                        found.append(shlex.join([words[0].rpartition("/")[2], *words[1:]]))
    return sorted(set(found))


@pytest.mark.parametrize("line", [line for line in typed() if line.startswith("make")])
def test_a_make_target_exists(line: str) -> None:
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    words = shlex.split(line)
    done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", [line for line in typed() if line.startswith("minilm-lab")])
def test_a_command_composes(line: str) -> None:
    command, *overrides = shlex.split(line)[1:]
    if command.startswith("-"):
        return
    assert command in COMMANDS
    # A flag of Hydra is not an override; of a multirun, each value of each setting is composed by itself.
    words = of_command(command, [word for word in overrides if not word.startswith("-")])
    parsed = OverridesParser.create().parse_overrides(words)
    single = [one.input_line for one in parsed if not one.is_sweep_override()]
    compose_command(command, single)
    for swept in (one for one in parsed if one.is_sweep_override()):
        assert {"-m", "--multirun"} & set(overrides), f"{swept.input_line} needs -m"
        if swept.value_type is ValueType.INTERVAL_SWEEP:  # of a search, which draws from it
            values: Iterable[object] = [swept.value().start]
        else:
            values = swept.sweep_string_iterator()
        for value in values:
            compose_command(command, [*single, f"{swept.get_key_element()}={value}"])


def test_the_readme_shows_the_two_commands() -> None:
    lines = typed()
    assert any(line.startswith("make demo") for line in lines)
