"""Nothing grows with the length of a run, nor memory with the length of a text."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import Lab

from .scene import Material
from .soak import flat, soak
from .streaming import measured, write_text

pytestmark = pytest.mark.slow


def test_400_steps_are_flat(lab: Lab, tmp_path: Path) -> None:
    quarters, _ = soak(Material(tmp_path / "material", lab), tmp_path / "run", 400, pause=0.05)
    assert flat(quarters), quarters


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    grown = []
    for megabytes in (12, 40):
        file = tmp_path / f"{megabytes}.txt"
        write_text(file, megabytes)
        grown.append(measured(file, tmp_path / f"cache-{megabytes}")[0])
    assert grown[1] - grown[0] < 14, f"{grown} MiB: half of what the text grew by"
