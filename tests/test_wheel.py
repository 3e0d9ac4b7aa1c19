"""What a wheel of the lab holds: the package, its configs and its tables, so that it works in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.network
@pytest.mark.slow
def test_tables_and_configs_travel_in_the_wheel(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    ]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    if done.returncode != 0 and "hatchling" in done.stderr:
        pytest.skip("the package registry, which has the build backend, cannot be reached")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("minilm_lab-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    empty = tmp_path / "empty"
    empty.mkdir()

    def lab(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "WANDB_MODE": "disabled"}
        command = [sys.executable, "-m", "minilm_lab", *words]
        return subprocess.run(
            command, cwd=empty, env=environment, capture_output=True, text=True, check=False
        )

    listed = lab("table")
    tables = {file.parent.name for file in (ROOT / "experiments").glob("*/table.yaml")}
    assert set(listed.stderr.rpartition("There are: ")[2].strip().split(", ")) == tables
    composed = lab("table", "name=demo", "--cfg", "job")
    assert composed.returncode == 0 and "name: demo" in composed.stdout, composed.stderr
    # The page's templates travel too.
    page = lab("report")
    assert page.returncode == 0 and (empty / "runs" / "report.html").is_file(), page.stderr
