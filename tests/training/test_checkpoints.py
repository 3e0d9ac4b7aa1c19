"""Checkpoints: what is in them, corrupt ones, full disks."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lab import Lab
from safetensors.torch import load_file

from minilm_lab.errors import LabError
from minilm_lab.training.checkpoints import AtomicCheckpointIO, newest_whole

from .helpers import column, kill_at, only_run

EXTRA = ["scale.steps=60", "trainer.checkpoint_every=5", "trainer.held_out_every=60"]


@pytest.fixture(scope="module")
def killed(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A runs folder with a distillation killed after two checkpoints, filled by the first test that asks."""
    return {"runs": tmp_path_factory.mktemp("killed") / "runs"}


@pytest.fixture
def interrupted(killed: dict[str, Path], lab: Lab, tiny: list[str], tmp_path: Path) -> Path:
    """A copy of a killed run's folder, in the place where `tiny` looks for it."""
    runs = killed["runs"]
    if not runs.exists():
        running = lab.start("distill", *tiny, *EXTRA, f"paths.runs={runs}")
        kill_at(running, runs, "distill", 12)
        assert running.finish().code == -signal.SIGKILL
    shutil.copytree(runs, tmp_path / "runs")
    folder = only_run(tmp_path / "runs", "distill")
    assert len(checkpoints(folder)) == 2
    return folder


def checkpoints(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("step-*.ckpt"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def lose_checksum(path: Path) -> None:
    path.with_name(path.name + ".sum").unlink()


def test_a_checkpoint_holds_the_student_and_nothing_of_the_teacher(
    interrupted: Path, tiny_teacher: Path
) -> None:
    saved = torch.load(checkpoints(interrupted)[-1], weights_only=True)
    names = set(saved["state_dict"])
    assert names and all(name.startswith("student.") for name in names)
    # The teacher has layers 2 and 3, the student 0 and 1.
    assert not any("layer.2" in name or "layer.3" in name for name in names)
    tensors = [t for t in saved["state_dict"].values() if t.ndim > 1]
    for name, weight in load_file(tiny_teacher / "model.safetensors").items():
        if weight.ndim > 1:
            assert not any(t.shape == weight.shape and torch.equal(t, weight) for t in tensors), name
    moments = saved["optimizer_states"][0]["state"]
    assert len(moments) == len(names), "what is trained, and nothing else"


@pytest.mark.parametrize("damage", [flip, truncate, lose_checksum])
def test_the_checkpoint_before_a_corrupt_one_is_used_and_said(
    interrupted: Path, lab: Lab, tiny: list[str], damage: object
) -> None:
    before, newest = checkpoints(interrupted)
    damage(newest)  # type: ignore[operator]
    finished = lab.run("distill", *tiny, *EXTRA)
    assert finished.code == 0, finished.err
    assert f"{newest} is corrupt" in finished.err
    assert f"from step {int(before.stem.split('-')[1])} of 60" in finished.err
    assert len(column(interrupted, "loss")) == 60


def test_without_a_whole_checkpoint_it_starts_at_0_and_says_so(
    interrupted: Path, lab: Lab, tiny: list[str]
) -> None:
    for path in checkpoints(interrupted):
        flip(path)
    finished = lab.run("distill", *tiny, *EXTRA)
    assert finished.code == 0, finished.err
    assert finished.err.count("is corrupt") == 2
    assert "starting from step 0" in finished.err
    assert len(column(interrupted, "loss")) == 60


def test_a_file_too_large_for_the_disk(interrupted: Path, lab: Lab, tiny: list[str]) -> None:
    """The system refuses to write a whole checkpoint, as on a full disk; the metrics still fit."""
    whole = checkpoints(interrupted)[-1]
    finished = lab.run("distill", *tiny, *EXTRA, before=limit_files)
    assert finished.code == 1
    assert "Traceback" not in finished.err
    assert "could not be written" in finished.err and "the one before is whole" in finished.err
    assert newest_whole(interrupted / "checkpoints") == whole
    assert not list((interrupted / "checkpoints").glob(".*"))
    status = json.loads((interrupted / "status.json").read_text())
    assert status["state"] == "FAILED" and "could not be written" in status["error"]
    assert lab.run("distill", *tiny, *EXTRA).code == 0


def limit_files() -> None:
    from minilm_lab.runs import environment

    environment.changes = lambda: b""  # a changed checkout's patch may be larger than that
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    if not done:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(interrupted: Path, small_disk: Path, lab: Lab, tiny: list[str]) -> None:
    runs = small_disk / "runs"
    shutil.copytree(interrupted.parents[1], runs)
    folder = only_run(runs, "distill")
    whole = newest_whole(folder / "checkpoints")
    assert whole is not None
    filler = small_disk / "filler"
    stats = os.statvfs(small_disk)
    # Space for the metrics, but not for a checkpoint.
    filler.write_bytes(b"\0" * (stats.f_bavail * stats.f_frsize - 100_000))
    finished = lab.run("distill", *tiny, *EXTRA, f"paths.runs={runs}")
    assert finished.code == 1
    assert "Traceback" not in finished.err
    assert "No space left" in finished.err and "Free some space" in finished.err
    assert newest_whole(folder / "checkpoints") == whole

    with filler.open("ab") as stream, pytest.raises(OSError):
        stream.write(b"\0" * 1_000_000)  # Now not even the metrics can be written.
        stream.flush()
    finished = lab.run("distill", *tiny, *EXTRA, f"paths.runs={runs}")
    assert finished.code == 1
    assert "Traceback" not in finished.err
    assert "No space left" in finished.err
    assert newest_whole(folder / "checkpoints") == whole

    filler.unlink()
    assert lab.run("distill", *tiny, *EXTRA, f"paths.runs={runs}").code == 0
    assert len(column(folder, "loss")) == 60


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "step-000000005.ckpt"
    AtomicCheckpointIO(tmp_path).save_checkpoint({"x": torch.ones(3)}, path)
    assert newest_whole(tmp_path) == path
    content = path.read_bytes()
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="could not be written"):
        AtomicCheckpointIO(tmp_path).save_checkpoint({}, tmp_path / "file" / "step-1.ckpt")
    assert path.read_bytes() == content


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        calls.append("flush " + Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def noted_replace(self: Path, target: Any) -> Any:
        calls.append("rename " + Path(target).name)
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    (tmp_path / "metrics.jsonl").write_text("{}")
    AtomicCheckpointIO(tmp_path).save_checkpoint({"x": torch.ones(3)}, tmp_path / "step-000000005.ckpt")
    named = calls.index("rename step-000000005.ckpt")
    assert {"flush .step-000000005.ckpt.tmp", "flush metrics.jsonl"} <= set(calls[:named]), calls
