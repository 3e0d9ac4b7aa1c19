"""Every dependency is pinned, and what is installed is what is pinned."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    wrong = [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line)]
    assert not wrong, f"not pinned exactly: {wrong}"
    return {_canonical(name): version for name, version in (line.split("==") for line in pins)}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_is_pinned_exactly_and_within_its_range() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    told = [*project["dependencies"], *(one for words in extras.values() for one in words)]
    pins = _pins()
    for requirement in map(Requirement, told):
        name = _canonical(requirement.name)
        if name == _canonical(project["name"]):
            continue
        assert requirement.specifier, f"{requirement} has no range"
        assert name in pins, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(pins[name], prereleases=True), f"{name}=={pins[name]}"
    assert len(project["dependencies"]) <= 25, "dependencies are few"


def test_what_is_installed_is_what_is_pinned() -> None:
    """And nothing else that the lab's requirements bring; `pip check` finds them consistent."""
    from importlib import metadata

    pins = _pins()
    wrong = {}
    for name, version in pins.items():
        try:
            there = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if there.split("+")[0] != version.split("+")[0]:
            wrong[name] = (version, there)
    assert not wrong, f"pinned, installed: {wrong}"
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
