"""A task's data is read once for the same files, and again when anything touched them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from minilm_lab import config
from minilm_lab.commands.composing import compose_command
from minilm_lab.errors import LabError
from minilm_lab.runs import fingerprints
from minilm_lab.tasks.base import Task
from minilm_lab.tasks.hub import HubTask
from minilm_lab.tasks.remembered import data_of
from minilm_lab.tasks.sentiment import Sentiment


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tasks whose data was read. Files count as settled at once."""
    monkeypatch.setattr(fingerprints, "SETTLED", -1.0)
    seen: list[str] = []
    load = HubTask.load

    def noted(self: HubTask, hub: str | None, cache: Path) -> Any:
        seen.append(self.name)
        return load(self, hub, cache)

    monkeypatch.setattr(HubTask, "load", noted)
    return seen


@pytest.fixture
def folder(tiny_task: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_task, tmp_path / "data"))


def task(folder: Path, *more: str) -> Task:
    words = ["task=classification", f"task.path={folder}", *more]
    made: Task = config.section(compose_command("finetune", words), "task")
    return made


def test_the_same_files_are_read_once(folder: Path, tmp_path: Path, reads: list[str]) -> None:
    first = data_of(task(folder), None, tmp_path / "cache")
    again = data_of(task(folder), None, tmp_path / "cache")
    assert len(reads) == 1
    assert (again.fingerprint, again.sizes) == (first.fingerprint, first.sizes)
    assert again.sizes[0][0] == 50 and again.sizes[1][0] == 21
    # What it stands for is read when it is needed, and is the same.
    assert again.splits.checksum() == first.splits.checksum() == first.fingerprint and len(reads) == 2
    assert data_of(task(folder, "task.train_examples=7"), None, tmp_path / "cache").sizes[0][0] == 7


@pytest.mark.parametrize("change", ["content", "same stamp", "new file", "other data"])
def test_what_was_touched_is_read_again(
    folder: Path, tmp_path: Path, reads: list[str], change: str, tiny_task: Path
) -> None:
    before = data_of(task(folder), None, tmp_path / "cache")
    file = folder / "validation.csv"
    stamp, text = file.stat(), file.read_text()
    if change == "new file":
        shutil.copy(file, folder / "test.csv")
    elif change == "other data":
        folder = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    else:
        file.write_text(text.replace(text[-2], "9" if text[-2] != "9" else "8"))
        if change == "same stamp":
            os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    after = data_of(task(folder), None, tmp_path / "cache")
    assert len(reads) == 2
    assert (
        after.fingerprint == before.fingerprint
    )  # the score column is not read, the labels are as they were


def test_data_that_changes_between_planning_and_work_is_an_error(
    folder: Path, tmp_path: Path, reads: list[str]
) -> None:
    data_of(task(folder), None, tmp_path / "cache")
    planned = data_of(task(folder), None, tmp_path / "cache")
    lines = (folder / "train.csv").read_text().splitlines()
    (folder / "train.csv").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(LabError, match="its data was changed meanwhile"):
        _ = planned.splits


def test_what_was_just_written_is_not_remembered(
    folder: Path, tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "SETTLED", 60.0)
    for _ in range(2):
        data_of(task(folder), None, tmp_path / "cache")
    assert len(reads) == 2


def test_data_of_the_hub_itself_is_not_remembered(
    folder: Path, tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may change there."""
    splits, wanted = task(folder).load(None, tmp_path), task(folder)
    wanted.path = "owner/name"
    monkeypatch.setattr(HubTask, "load", lambda self, hub, cache: splits)
    data_of(wanted, None, tmp_path / "cache")
    assert not (tmp_path / "cache" / "fingerprints").exists()


def test_data_of_a_pinned_package_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "SETTLED", -1.0)
    seen: list[str] = []
    load = Sentiment.load

    def noted(self: Sentiment, hub: str | None, cache: Path) -> Any:
        seen.append(self.name)
        return load(self, hub, Path(".cache"))

    monkeypatch.setattr(Sentiment, "load", noted)
    try:
        data = data_of(Sentiment(), None, tmp_path)
    except LabError as error:
        pytest.skip(str(error).splitlines()[0])
    assert data_of(Sentiment(), None, tmp_path).fingerprint == data.fingerprint and len(seen) == 1
    other = data_of(Sentiment(domains=["movie"]), None, tmp_path)
    assert other.fingerprint != data.fingerprint and len(seen) == 2
