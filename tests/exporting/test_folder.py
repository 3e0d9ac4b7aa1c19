"""Nothing foreign is ever deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from minilm_lab.errors import LabError
from minilm_lab.exporting.folder import check_target


def test_targets_that_may_be_written(tmp_path: Path) -> None:
    check_target(tmp_path / "new", False, None)
    check_target(tmp_path, False, None)  # empty
    (tmp_path / "config.json").write_text("")
    check_target(tmp_path, True, None)


@pytest.mark.parametrize(
    ("overwrite", "files", "message"),
    [
        (False, ["config.json"], "is not empty; .*overwrite=true"),
        (True, ["thesis.tex"], "holds no config.json, .*not replaced"),
    ],
)
def test_targets_that_may_not(overwrite: bool, files: list[str], message: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).write_text("")
    with pytest.raises(LabError, match=message):
        check_target(tmp_path, overwrite, None)


def test_the_source_is_safe(tmp_path: Path) -> None:
    student = tmp_path / "run" / "student"
    student.mkdir(parents=True)
    for out in (student, tmp_path / "run", tmp_path / "run" / ".." / "run" / "student"):
        with pytest.raises(LabError, match="holds the model that is exported"):
            check_target(out, True, student)
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="is a file"):
        check_target(tmp_path / "file", True, student)
