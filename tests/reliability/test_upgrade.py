"""What older versions wrote is still read: real records of the first day, and of the shape that is written now."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training.helpers import only_run

from minilm_lab.commands import rerun
from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.distill import distill, plan
from minilm_lab.errors import LabError
from minilm_lab.reports import cells, curves, listing, records
from minilm_lab.runs.folder import RunFolder, execute
from minilm_lab.runs.identity import identity_of
from minilm_lab.runs.repeating import compare
from minilm_lab.training.checkpoints import checksum
from minilm_lab.training.distiller import Distiller

RECORDS = Path(__file__).parent / "records"
#: Version -> what its fine-tunings scored, by name of their metric.
SCORES = {"first": {"accuracy"}, "present": {"accuracy"}}


@pytest.fixture(params=SCORES)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder of runs as a version of the lab left it (the metrics of the first are thinned out)."""
    return Path(shutil.copytree(RECORDS / request.param, tmp_path / request.param))


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
        assert set(raw["scores"]) >= SCORES[kept.name]
        cell = cells.score_cell([record], None)
        assert cell.values == [raw["score"]["value"]] and cell.seeds == [raw["config"]["seed"]]
        assert cells.parameters_cell([record]).mean is not None
    caption = cells.caption_of([record for record in found if record.command == "finetune"])
    assert caption.hardware and caption.commits


def test_an_identity_of_then_is_an_identity_of_now(kept: Path) -> None:
    """So a completed run of an older version is found and not done again."""
    for record in records.load(kept):
        what = record.result["config"]
        assert identity_of(record.command, what) == record.identity

        def work(folder: RunFolder) -> dict[str, Any]:
            raise AssertionError("done again")

        folder = RunFolder(kept, record.command, "another-name", record.identity)
        assert folder.path == record.folder
        assert execute(folder, what, {}, work) == record.result


def test_the_settings_of_today_are_the_work_of_then(tiny: list[str]) -> None:
    """The keys of a what-config: a setting that came later is left out while it is at its default."""
    ready = plan(compose_command("distill", tiny))
    first = next(r for r in records.load(RECORDS / "first") if r.command == "distill").result["config"]
    now = json.loads(json.dumps(ready.what))
    for group in ("student", "objective", "optim", "scale"):
        assert now[group].keys() == first[group].keys(), group
    assert now.keys() == first.keys()


def test_a_rerun_says_what_a_record_lacks(kept: Path, tmp_path: Path) -> None:
    folder = only_run(kept, "distill")
    assert compare(folder, folder).same
    with pytest.raises(LabError) as error:
        rerun.again(folder, tmp_path / "again")
    says = {"first": "did not record its composed config", "present": "tiny is not a folder"}
    assert says[kept.name] in str(error.value)


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
                distill(ready)
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
        distill(ready)
    assert all(key in str(error.value) for key in keys), error.value
    assert "checkpoints" in str(error.value) and "start from step 0" in str(error.value)
    # As it says: without the folder the run is done.
    shutil.rmtree(ready.folder.checkpoints)
    assert distill(ready)["steps"] == 16


def _rewritten(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the checkpoints of a run, with checksums that fit, as the first version wrote them."""
    for file in folder.glob("step-*.ckpt"):
        found = torch.load(file, weights_only=True)
        torch.save(change(found), file)
        file.with_name(f"{file.name}.sum").write_text(checksum(file))


def test_a_checkpoint_of_the_first_version_is_resumed(
    interrupted: Callable[..., Path], tiny: list[str], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """It knew no guards, did not say whose it was, and had no checksum of the metrics."""
    folder = interrupted()

    def older(found: dict[str, Any]) -> dict[str, Any]:
        newer = [name for name in found["callbacks"] if name.startswith(("Guards", "SameWork"))]
        assert len(newer) == 2
        return {**found, "callbacks": {k: v for k, v in found["callbacks"].items() if k not in newer}}

    _rewritten(folder / "checkpoints", older)
    caplog.set_level(logging.INFO, "minilm_lab")
    assert distill(plan(compose_command("distill", tiny)))["steps"] == 16
    assert "from step 10" in caplog.text
    # To the same end as a run that nothing happened to.
    whole = plan(compose_command("distill", [*tiny, f"paths.runs={tmp_path / 'whole'}"]))
    distill(whole)
    assert compare(folder, whole.folder.path).same


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, [1, 2], {"model": torch.zeros(2)}])
def test_what_is_no_checkpoint_is_said(
    interrupted: Callable[..., Path], tiny: list[str], content: Any
) -> None:
    folder = interrupted()
    _rewritten(folder / "checkpoints", lambda _: content)
    with pytest.raises(LabError, match="is no checkpoint of the lab"):
        distill(plan(compose_command("distill", tiny)))


def test_what_a_record_says_of_how_is_more_than_before() -> None:
    """Tools may read config.yaml: what was there is still there."""
    from omegaconf import OmegaConf

    first, present = (OmegaConf.load(only_run(RECORDS / v, "distill") / "config.yaml") for v in SCORES)
    assert set(first) == set(present) == {"what", "how"}
    for group in ("impl", "trainer", "paths"):
        assert set(first.how[group]) <= set(present.how[group])
    assert set(present.how.asked) >= {"teacher", "student", "objective", "corpus", "paths"}
