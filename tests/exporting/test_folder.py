"""A folder appears whole or not at all, and nothing foreign is ever deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from minilm_lab.errors import LabError
from minilm_lab.exporting.folder import check_target, whole_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_appears_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "model"
    with whole_folder(out) as folder:
        (folder / "config.json").write_text("new")
        (folder / "weights").write_text("")
        (folder / "weights").chmod(0o600)
        assert not out.exists()
    assert (out / "config.json").read_text() == "new"
    assert names(out.parent) == ["model"]
    # What others may read is the folder's affair, not that of the library that wrote a file.
    assert (out / "weights").stat().st_mode == (out / "config.json").stat().st_mode


@pytest.mark.parametrize("error", [LabError, KeyboardInterrupt])
def test_after_an_error_nothing_is_left(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), whole_folder(tmp_path / "model") as folder:
        (folder / "config.json").write_text("new")
        raise error
    assert names(tmp_path) == []


def test_an_earlier_export_is_replaced_whole_or_kept(tmp_path: Path) -> None:
    out = tmp_path / "model"
    out.mkdir()
    (out / "config.json").write_text("old")
    (out / "old.onnx").write_text("old")
    with pytest.raises(LabError), whole_folder(out) as folder:
        (folder / "config.json").write_text("new")
        raise LabError("no")
    assert names(out) == ["config.json", "old.onnx"]
    with whole_folder(out) as folder:
        (folder / "config.json").write_text("new")
    assert names(out) == ["config.json"] and names(tmp_path) == ["model"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(LabError, match=r"out=.* cannot be written"),
        whole_folder(tmp_path / "file" / "model"),
    ):
        pass


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
