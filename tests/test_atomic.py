"""A folder appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from minilm_lab.atomic import whole_folder
from minilm_lab.errors import LabError


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
        pytest.raises(LabError, match="cannot be written"),
        whole_folder(tmp_path / "file" / "model"),
    ):
        pass


def test_what_a_killed_process_left_goes_away_and_others_stay(tmp_path: Path) -> None:
    half = tmp_path / ".model.new.tmp"
    half.mkdir()
    (half / "half").write_text("")
    with whole_folder(tmp_path / "model", alone=False) as beside:
        (beside / "config.json").write_text("")
    assert names(tmp_path) == [".model.new.tmp", "model"]
    with whole_folder(tmp_path / "model") as folder:
        assert names(folder) == []
    assert names(tmp_path) == ["model"] and names(tmp_path / "model") == []
