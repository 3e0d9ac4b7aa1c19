"""What is kept of a teacher: read back as written, made again where damaged, and no teacher in a later epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lab import Lab
from models.test_language_model import saved_causal
from safetensors.torch import load_file

from minilm_lab.data import Blocks
from minilm_lab.data.blocks import LENGTHS, Index
from minilm_lab.models.next_token import Top
from minilm_lab.models.taps import Seen
from minilm_lab.training.soft_targets import SoftTargets

from .helpers import killed_beside_whole, lines, only_run, record
from .test_families import words


def blocks(folder: Path, lengths: list[int] | None) -> Blocks:
    index = Index(
        "c", {}, 4, 6, "packed", "uint16", 0, 4, 9, 24, 0, 0.0, {} if lengths is None else {LENGTHS: "x"}
    )
    if lengths is not None:
        np.array(lengths, np.uint32).tofile(folder / LENGTHS)
    return Blocks(folder, index)


def seen(rows: list[int], length: int) -> Seen:
    """A top that says of which block and place it is."""
    ids = torch.tensor([[[10 * row + place, row, place] for place in range(length)] for row in rows])
    logs = -torch.cat([ids, ids[..., :1] + 1], dim=2).half() / 8
    return Seen(top=Top(ids, logs))


@pytest.mark.parametrize("lengths", [None, [6, 4, 2, 5]])
def test_read_back_as_written(lengths: list[int] | None, tmp_path: Path) -> None:
    targets = SoftTargets(tmp_path, blocks(tmp_path, lengths), ["t"], 3, 100)

    def nobody() -> Seen:
        raise AssertionError("the teacher is not needed")

    width = 4 if lengths else 6  # full blocks are read whole
    first = targets(torch.tensor([2, 1]), width, lambda: seen([2, 1], width)).top
    again = targets(torch.tensor([1, 2]), width, nobody).top
    later = SoftTargets(tmp_path, blocks(tmp_path, lengths), ["t"], 3, 100)(
        torch.tensor([2]), width, nobody
    ).top
    other = SoftTargets(tmp_path, blocks(tmp_path, lengths), ["another"], 3, 100)
    assert first is not None and again is not None and later is not None
    for n, row in enumerate((2, 1)):
        real = lengths[row] if lengths else width
        expected = seen([row], width).top
        assert expected is not None
        for part, wanted, other_order in zip(first, expected, again, strict=True):
            assert torch.equal(part[n, :real], wanted[0, :real])
            assert torch.equal(part[n], other_order[1 - n])
    assert torch.equal(first.ids[0], later.ids[0]) and first.ids.dtype == torch.long
    assert (targets.computed, targets.read, other.folder == targets.folder) == (2, 2, False)


def test_a_damaged_block_is_made_again(tmp_path: Path) -> None:
    targets = SoftTargets(tmp_path, blocks(tmp_path, None), ["t"], 3, 100)
    targets(torch.tensor([0, 3]), 6, lambda: seen([0, 3], 6))
    stored = np.load(targets.folder / "logs.npy", mmap_mode="r+")
    stored[3, 5, 0] = -9
    stored.flush()
    asked: list[int] = []

    def teach() -> Seen:
        asked.append(1)
        return seen([3], 6)

    fresh = SoftTargets(tmp_path, blocks(tmp_path, None), ["t"], 3, 100)
    assert fresh(torch.tensor([0]), 6, teach).top is not None and not asked
    top, expected = fresh(torch.tensor([3]), 6, teach).top, seen([3], 6).top
    assert top is not None and expected is not None and len(asked) == 1
    assert torch.equal(top.logs, expected.logs)


def test_later_epochs_and_other_students_need_no_teacher_and_a_killed_run_ends_bit_for_bit(
    tiny: list[str], lab: Lab, tmp_path: Path
) -> None:
    teacher = saved_causal(tmp_path / "teacher", num_hidden_layers=4)
    more = ["objective=lm_kd", "objective.top_k=8", "trainer.checkpoint_every=4", "scale.steps=16"]
    base = words(tiny, teacher, tmp_path, *more)
    base = [word for word in base if not word.startswith("paths.runs")]
    undisturbed, resumed = killed_beside_whole(lab, base, tmp_path)
    first = record(undisturbed)["soft_targets"]
    assert first["computed"] > 0 and first["read"] > 0  # held-out blocks come more than once
    assert lines(undisturbed) == lines(resumed)
    one, two = (load_file(run / "student" / "model.safetensors") for run in (undisturbed, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert record(resumed)["soft_targets"]["computed"] == 0
    done = lab.run("distill", *base, "student.dropout=0.1", f"paths.runs={tmp_path / 'other'}")
    assert done.code == 0, done.err
    assert record(only_run(tmp_path / "other", "distill"))["soft_targets"]["computed"] == 0
