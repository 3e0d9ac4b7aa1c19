"""What an older version wrote is still read, and its runs are not taken for those of today."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training.helpers import only_run

from minilm_lab.commands import rerun
from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.distill import plan
from minilm_lab.errors import LabError
from minilm_lab.reports import cells, curves, listing, records
from minilm_lab.runs.identity import identity_of
from minilm_lab.runs.repeating import compare
from minilm_lab.training.checkpoints import checksum
from minilm_lab.training.distiller import Distiller

RECORDS = Path(__file__).parent / "records"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder of runs as the edition before this one left it."""
    return Path(shutil.copytree(RECORDS / "present", tmp_path / "present"))


def test_records_are_read(kept: Path) -> None:
    found = records.load(kept)
    assert {record.command for record in found} == {"distill", "finetune"}
    assert all(record.completed and record.error is None for record in found), found
    shown = listing.to_text(listing.list_runs(found))
    assert all(record.identity[:6] in shown for record in found)
    for record in found:
        raw = json.loads((record.folder / "result.json").read_text())
        if record.command == "distill":
            curve = curves.curve_of(record, "x")
            assert curve.training and curve.held_out
            assert record.number("held_out_loss.last") == raw["held_out_loss"]["last"]
            continue
        assert record.score == (raw["score"]["name"], raw["score"]["value"])
        assert set(raw["scores"]) >= {"accuracy"}
        cell = cells.score_cell([record], None)
        assert cell.values == [raw["score"]["value"]] and cell.seeds == [raw["config"]["seed"]]
        assert cells.parameters_cell([record]).values
    caption = cells.caption_of([record for record in found if record.command == "finetune"])
    assert caption.hardware and caption.commits


def test_a_run_of_another_format_is_not_taken_for_one_of_today(kept: Path) -> None:
    for record in records.load(kept):
        assert identity_of(record.command, record.result["config"]) != record.identity


def test_a_rerun_says_what_is_not_there_any_more(kept: Path, tmp_path: Path) -> None:
    folder = only_run(kept, "distill")
    assert compare(folder, folder).same
    with pytest.raises(LabError, match="tiny is not a folder"):
        rerun.again(folder, tmp_path / "again")


class Stopped(Exception):
    """Power is off."""


@pytest.fixture
def interrupted(tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes the folder of a run that was cut off after the checkpoint of step 10."""

    def make(*more: str) -> Path:
        words = [*tiny, "trainer.checkpoint_every=5", *more]
        step = Distiller.training_step

        def stop(self: Distiller, batch: Any, index: int) -> Any:
            if self.global_step == 12:
                raise Stopped
            return step(self, batch, index)

        with monkeypatch.context() as patched:
            patched.setattr(Distiller, "training_step", stop)
            ready = plan(compose_command("distill", words))
            with pytest.raises(Stopped):
                ready.make()
        return ready.folder.path

    return make


@pytest.mark.parametrize(
    ("other", "keys"),
    [
        (["optim.lr=2e-3", "seed=5"], ["optim.lr: 0.001 -> 0.002", "seed: 0 -> 5"]),
        # Another shape would stop in the library's words when its weights are loaded.
        (["student=third_depth"], ["student.layers: 2 -> 1"]),
        (["objective.relations=[vv]"], ["objective.relations"]),
    ],
)
def test_a_checkpoint_of_other_work_names_what_differs(
    interrupted: Callable[..., Path], tiny: list[str], other: list[str], keys: list[str]
) -> None:
    theirs = interrupted()
    ready = plan(compose_command("distill", [*tiny, *other]))
    ready.folder.path.mkdir(parents=True)
    shutil.copytree(theirs / "checkpoints", ready.folder.checkpoints)
    shutil.copy(theirs / "metrics.jsonl", ready.folder.metrics)
    with pytest.raises(LabError, match="was made by other work") as error:
        ready.make()
    assert all(key in str(error.value) for key in keys), error.value
    assert "checkpoints" in str(error.value) and "start from step 0" in str(error.value)
    # As it says: without the folder the run is done.
    shutil.rmtree(ready.folder.checkpoints)
    assert ready.make()["steps"] == 16


def _rewritten(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the checkpoints of a run, with checksums that fit, as the first version wrote them."""
    for file in folder.glob("step-*.ckpt"):
        found = torch.load(file, weights_only=True)
        torch.save(change(found), file)
        file.with_name(f"{file.name}.sum").write_text(checksum(file))


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, [1, 2], {"model": torch.zeros(2)}])
def test_what_is_no_checkpoint_is_said(
    interrupted: Callable[..., Path], tiny: list[str], content: Any
) -> None:
    folder = interrupted()
    _rewritten(folder / "checkpoints", lambda _: content)
    with pytest.raises(LabError, match="is no checkpoint of the lab"):
        plan(compose_command("distill", tiny)).make()
