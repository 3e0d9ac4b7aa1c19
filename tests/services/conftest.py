"""A Slurm cluster of one node, for the tests marked `slurm`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .cluster import Cluster

SCRIPT = Path(__file__).with_name("slurm.sh")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Started for these tests and ended after them; skips, saying why, where it cannot be had."""
    pytest.importorskip("submitit", reason="hydra-submitit-launcher is not installed")
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([SCRIPT, "start", folder], capture_output=True, text=True, timeout=120)
    if started.returncode == 3:
        pytest.skip(started.stderr.strip())
    assert started.returncode == 0, started.stderr
    try:
        yield Cluster({**os.environ, "SLURM_CONF": str(folder / "slurm.conf")})
    finally:
        subprocess.run([SCRIPT, "stop", folder], timeout=60)
