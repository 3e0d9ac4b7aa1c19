"""`minilm-lab sync`: upload the W&B runs that were kept offline, each under its identity, and none twice."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from minilm_lab import wandb_access
from minilm_lab.errors import LabError
from minilm_lab.reports.listing import list_runs
from minilm_lab.reports.records import RUNNING, load

log = logging.getLogger(__name__)

#: W&B writes its file from about 15 seconds on: a run killed before leaves a header and nothing to upload.
_HEADER_BYTES = 7
NEW, GROWN, UPLOADED, EMPTY, BUSY = "new", "grown", "uploaded", "empty", "running"


@dataclass(frozen=True)
class Offline:
    """One offline run of W&B: a session of a run; a resumed run has several, all with its identity."""

    file: Path
    """`<run>/wandb/offline-run-<time>-<identity>/run-<identity>.wandb`."""
    state: str
    """`new`, `grown` since it was uploaded, `uploaded`, `empty`, or `running` (its run has not ended)."""

    @property
    def identity(self) -> str:
        """Identity of the run, and its id in W&B."""
        return self.file.stem.removeprefix("run-")

    @property
    def folder(self) -> Path:
        """Folder of the offline run."""
        return self.file.parent


def find(runs: Path, contains: str | None = None) -> list[Offline]:
    """Return the offline runs below the folder of runs, sessions of one run in the order in which they were made.

    contains: only those with this text in the name of the run's folder.
    """
    busy = {line.record.folder for line in list_runs(load(runs)) if line.state == RUNNING}
    files = sorted(runs.glob("*/*/wandb/offline-run-*/run-*.wandb"), key=lambda file: file.parent.name)
    found = []
    for file in files:
        run = file.parents[2]
        if contains is None or contains.casefold() in run.name.casefold():
            # Of a run that has not ended only the newest session is still written.
            last = file == [other for other in files if other.parents[2] == run][-1]
            found.append(Offline(file, BUSY if last and run in busy else _state(file)))
    return found


def _state(file: Path) -> str:
    if file.stat().st_size <= _HEADER_BYTES:
        return EMPTY
    # `wandb sync` marks what it has uploaded.
    marker = file.with_suffix(".wandb.synced")
    if not marker.exists():
        return NEW
    return GROWN if file.stat().st_mtime_ns > marker.stat().st_mtime_ns else UPLOADED


def upload(waiting: Sequence[Offline], project: str, entity: str | None) -> list[Offline]:
    """Upload with `wandb sync`, which takes sessions of one run one after another; returns what it did not upload."""
    words = [sys.executable, "-m", "wandb", "sync", "--include-synced", "--project", project]
    words += ["--entity", entity] if entity else []
    # It is quiet while training, and is asked now.
    env = {key: value for key, value in os.environ.items() if key not in ("WANDB_SILENT", "WANDB_MODE")}
    subprocess.run([*words, *(str(one.folder) for one in waiting)], env=env, check=False)
    return [one for one in waiting if _state(one.file) != UPLOADED]


def link(identities: Sequence[str], project: str, entity: str | None, api: Any = None) -> int:
    """Draw the lineage of uploaded runs, which offline could not be recorded; returns how many arrows were drawn.

    A run says in its config what it used: its student (`lineage.uses`), or the scores behind a table (`runs`).
    """
    import wandb

    try:
        api = api or wandb.Api()
        path = f"{entity or api.default_entity}/{project}"
    except (wandb.errors.Error, ValueError) as error:
        log.warning("the lineage of what was uploaded is not shown: %s", error)
        return 0
    drawn = 0
    for identity in dict.fromkeys(identities):
        try:
            run = api.run(f"{path}/{identity}")
            known = {artifact.name.partition(":")[0] for artifact in run.used_artifacts()}
            for name in _uses(run.config):
                if name not in known:
                    run.use_artifact(api.artifact(f"{path}/{name}:latest"))
                    drawn += 1
        except (wandb.errors.Error, ValueError) as error:
            log.warning("the lineage of %s is not shown: %s", identity, error)
    return drawn


def _uses(config: Any) -> list[str]:
    student = (config.get("lineage") or {}).get("uses")
    scores = str(config.get("runs") or "").split(",") if config.get("command") == "table" else []
    return [*([student] if student else []), *(f"score-{identity}" for identity in scores if identity)]


def run(cfg: DictConfig) -> None:
    """Entry point for Hydra."""
    runs = Path(cfg.paths.runs)
    found = find(runs, cfg.contains)
    waiting = [one for one in found if one.state in (NEW, GROWN)]
    counts = {state: sum(one.state == state for one in found) for state in (UPLOADED, BUSY, EMPTY)}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    print(f"{len(waiting)} to upload{f' ({told})' if told else ''} in {runs}")
    if cfg.dry:
        for one in waiting:
            print(f"{one.state:<6} {one.identity}  {one.folder}")
        return
    if not waiting:
        return
    if not wandb_access.logged_in():
        raise LabError(
            "not logged in to W&B: `wandb login` (or set WANDB_API_KEY), then the same command again; "
            "`minilm-lab sync dry=true` says what it would upload"
        )
    failed = upload(waiting, cfg.project, cfg.entity)
    done = [one for one in waiting if one not in failed]
    if done:
        drawn = link([one.identity for one in done], cfg.project, cfg.entity)
        print(
            f"uploaded {len(done)} ({len({one.identity for one in done})} runs), lineage: {drawn} artifacts linked"
        )
    if failed:
        names = "\n  ".join(str(one.folder) for one in failed)
        raise LabError(f"W&B did not take {len(failed)}; the same command tries them again:\n  {names}")
