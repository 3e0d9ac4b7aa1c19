"""A generated month, small, written once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from minilm_lab.studies.merrec.generator import Settings, generate
from minilm_lab.studies.merrec.schema import Shards, shards

pytest.importorskip("duckdb", reason="the study MerRec needs the extra: pip install -e '.[merrec]'")


@pytest.fixture(scope="session")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4,000 users in two files, about 250,000 rows."""
    folder = tmp_path_factory.mktemp("merrec") / "month"
    generate(Settings(users=4000, users_a_shard=2500, seed=3), folder)
    return folder


@pytest.fixture(scope="session")
def files(month: Path) -> Shards:
    return shards(month)
