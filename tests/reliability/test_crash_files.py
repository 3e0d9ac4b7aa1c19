"""Files cut as by a power cut: noticed, and made again. One cut of each file; the whole matrix tries all three."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import Lab

from .crashes import Case, cases, try_case
from .scene import Material

pytestmark = pytest.mark.slow
#: A third of them: each file once, each way to cut several times.
CHOSEN = [case for n, case in enumerate(c for c in cases() if "is cut" in c.family) if n % 3 == n // 3 % 3]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory, lab: Lab) -> Material:
    """Teacher and text; undisturbed runs."""
    return Material(tmp_path_factory.mktemp("material") / "material", lab)


@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: f"{case.family}, {case.name}")
def test_it_ends_as_if_nothing_had_happened(case: Case, material: Material, tmp_path: Path) -> None:
    assert try_case(case, material, tmp_path / "case", seed=200) == []
