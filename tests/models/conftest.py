"""A teacher's folder, whole and as a copy to break."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .helpers import saved


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole teacher folder; tests copy it before they break it."""
    return saved(tmp_path_factory.mktemp("teacher") / "bert")


@pytest.fixture
def broken(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "broken"))
