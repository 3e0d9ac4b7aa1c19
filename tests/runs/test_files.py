"""Atomic files and the journal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minilm_lab.runs import files, metrics
from minilm_lab.runs.files import read_json, write_atomically, write_json


def test_write_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.json"
    write_json(path, {"ü": [1, None]})
    assert read_json(path) == {"ü": [1, None]}
    write_atomically(path, b"[2]")
    assert read_json(path) == [2]
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_failure_leaves_the_old_content_and_nothing_else(fails: str, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "x"
    write_atomically(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if fails == "fsync":
        monkeypatch.setattr(files.os, "fsync", full)
    else:
        monkeypatch.setattr(files.os, "replace", full)
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00", None])
def test_read_json_of_what_is_not_whole(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    assert read_json(tmp_path / "x") is None


def _steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    "step, kept",
    [
        (-1, []),
        (0, [0]),
        (10, [0, 10, 10]),
        (15, [0, 10, 10]),
        (20, [0, 10, 10, 20]),
        (99, [0, 10, 10, 20, 30]),
    ],
)
def test_rewind_drops_later_and_cut_lines(step: int, kept: list[int], tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for n in (0, 10, 10, 20, 30):
        metrics.append(path, {"step": n, "loss": n / 7})
    with path.open("ab") as stream:
        stream.write(b'{"step": 5, "loss": 0.\xc3')  # killed while writing
    metrics.rewind(path, step)
    assert _steps(path) == kept
    metrics.append(path, {"step": 100})
    assert _steps(path) == [*kept, 100]


def test_rewind_keeps_lines_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics.append(path, {"step": 1, "loss": 0.1 + 0.2, "note": "a\u2028b"})
    before = path.read_bytes()
    metrics.rewind(path, 1)
    assert path.read_bytes() == before


def test_rewind_of_nothing(tmp_path: Path) -> None:
    metrics.rewind(tmp_path / "none", 3)
    assert list(tmp_path.iterdir()) == []


def test_an_appended_line_is_there_at_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for n in range(3):
        metrics.append(path, {"step": n})
        assert path.read_text() == "".join(f'{{"step": {i}}}\n' for i in range(n + 1))
