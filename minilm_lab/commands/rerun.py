"""`minilm-lab rerun run=<folder or identity>`: do a recorded run again, elsewhere, and compare the two."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from minilm_lab.errors import LabError
from minilm_lab.runs.differences import differing, told
from minilm_lab.runs.files import read_json, write_json
from minilm_lab.runs.folder import RunFolder
from minilm_lab.runs.graph import Run, walk
from minilm_lab.runs.repeating import Comparison, compare

#: Commands whose runs can be done again.
AGAIN = ("distill", "evaluate", "finetune", "pretrain")
#: Where the comparison is kept, in the folder of the new run.
COMPARISON = "comparison.json"


def find(given: str, runs: Path) -> Path:
    """The folder of a completed run, given by its folder or its identity; LabError if there is none."""
    folder = Path(given).expanduser()
    if re.fullmatch(r"[0-9a-f]{8,64}", given) and not folder.is_dir():
        found = sorted(path for command in AGAIN for path in (runs / command).glob(f"*-{given}"))
        if not found:
            raise LabError(f"run={given}: {runs} has no run of this identity; `minilm-lab runs` lists them")
        folder = found[0]
    if not folder.is_dir():
        raise LabError(
            f"run={given} is neither a run's folder nor its identity; `minilm-lab runs` lists them"
        )
    if folder.resolve().parent.name not in AGAIN:
        raise LabError(f"run={given}: runs of {', '.join(AGAIN)} can be done again, and this is none")
    if not isinstance(read_json(folder / "result.json"), dict):
        raise LabError(f"run={given} is not completed: there is nothing to compare with")
    return folder


def asked(folder: Path) -> tuple[DictConfig, dict[str, Any]]:
    """The composed config that a run was started with, and what it computed."""
    try:
        kept = OmegaConf.load(folder / "config.yaml")
        what = OmegaConf.to_container(kept.what)
        config = OmegaConf.select(kept, "how.asked")
    except (OSError, OmegaConfBaseException, AttributeError) as error:
        raise LabError(f"{folder}/config.yaml cannot be read ({error})") from error
    if not isinstance(config, DictConfig) or not config:
        raise LabError(
            f"{folder} was made by a version of the lab that did not record its composed config; start its command "
            "again with paths.runs=<another folder> and compare the two"
        )
    assert isinstance(what, dict)
    # Interpolations are of the root of the config that was composed.
    composed = OmegaConf.create(OmegaConf.to_container(config))
    assert isinstance(composed, DictConfig)
    return composed, {str(key): value for key, value in what.items()}


def again(folder: Path, runs: Path) -> tuple[RunFolder, Comparison]:
    """Do the run of `folder` again in `runs` (another folder of runs) and compare; LabError if the work changed."""
    cfg, what = asked(folder)
    cfg.paths.runs = str(runs)
    # Its W&B run, whose id is the identity, stays that of the first time.
    cfg.logger = {"_target_": "minilm_lab.training.loggers.NoLogger"}
    run = _planned(folder.resolve().parent.name, cfg, folder.resolve().name.rpartition("-")[2])
    changed = differing(what, run.what)
    if changed:
        raise LabError(
            f"{folder.name} cannot be done again: what it computes is no longer the same ({told(changed)}). "
            "A checksum that differs means that the text, the task's data or the teacher's files were changed"
        )
    for needed in walk(run.inputs):
        _use_what_is_there(needed.folder, folder.resolve().parents[1])
    replace(run, afterwards=None).make()
    comparison = compare(folder, run.folder.path)
    write_json(run.folder.path / COMPARISON, {"with": str(folder), **comparison.plain()})
    return run.folder, comparison


def _planned(command: str, cfg: DictConfig, identity: str) -> Run:
    """The run of this identity; if there is none any more, the one in its place."""
    run: Run = importlib.import_module(f"minilm_lab.commands.{command}").plan(cfg)
    # It may be that of a teacher assistant, which was planned from the config of its student.
    return next((needed for needed in walk([run]) if needed.identity == identity), run)


def _use_what_is_there(needed: RunFolder, runs: Path) -> None:
    """Link a completed run that the work starts from, so that it is not done again."""
    original = RunFolder(runs, needed.command, needed.name, needed.identity)
    if original.result() is not None and not needed.path.exists():
        needed.path.parent.mkdir(parents=True, exist_ok=True)
        needed.path.symlink_to(original.path.resolve(), target_is_directory=True)


def _fresh(runs: Path, folder: Path) -> Path:
    """The first of <runs>/rerun/1, 2, … where this run is not completed: an interrupted one goes on."""
    own = folder.resolve()
    for number in count(1):
        place = runs / "rerun" / str(number)
        if not (place / own.parent.name / own.name / "result.json").is_file():
            return place
    raise AssertionError("unreachable")


def run(cfg: DictConfig) -> float:
    """Entry point for Hydra; prints the comparison, returns 1 if the runs differ. Exits with 3 then."""
    if OmegaConf.is_missing(cfg, "run"):
        raise LabError("run must be given: a run's folder or its identity; `minilm-lab runs` lists them")
    runs = Path(cfg.paths.runs)
    folder = find(str(cfg.run), runs)
    place = Path(str(cfg.out)).expanduser() if cfg.out is not None else _fresh(runs, folder)
    if place.resolve() == folder.resolve().parents[1]:
        raise LabError(f"out={place} is where the run lies; give another folder")
    target, comparison = again(folder, place)
    print(comparison.text())
    print(f"{folder}\n{target.path}")
    if not comparison.same:
        sys.exit(3)
    return 0.0
