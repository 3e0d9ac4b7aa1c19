"""`minilm-lab sync`: upload the W&B runs that were kept offline, each under its identity, and none twice."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from minilm_lab.errors import LabError
from minilm_lab.reports.listing import list_runs
from minilm_lab.reports.records import RUNNING, load
from minilm_lab.runs import wandb_access

log = logging.getLogger(__name__)

_HEADER_BYTES = 7
"""W&B writes its file from about 15 seconds on: a run killed before leaves a header and nothing to upload."""
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
    # Of a run that has not ended only the newest session is still written.
    newest = {file.parents[2]: file for file in files}
    written = {file for run, file in newest.items() if run in busy}
    return [
        Offline(file, BUSY if file in written else _state(file))
        for file in files
        if contains is None or contains.casefold() in file.parents[2].name.casefold()
    ]


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
    subprocess.run([*words, *(str(session.folder) for session in waiting)], env=env, check=False)
    return [session for session in waiting if _state(session.file) != UPLOADED]


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
    sessions = find(runs, cfg.contains)
    waiting = [session for session in sessions if session.state in (NEW, GROWN)]
    counts = Counter(session.state for session in sessions)
    others = ", ".join(f"{counts[state]} {state}" for state in (UPLOADED, BUSY, EMPTY) if counts[state])
    print(f"{len(waiting)} to upload{f' ({others})' if others else ''} in {runs}")
    if cfg.dry:
        for session in waiting:
            print(f"{session.state:<6} {session.identity}  {session.folder}")
        return
    if not waiting:
        return
    if not wandb_access.logged_in():
        raise LabError(
            "not logged in to W&B: `wandb login` (or set WANDB_API_KEY), then the same command again; "
            "`minilm-lab sync dry=true` says what it would upload"
        )
    failed = upload(waiting, cfg.project, cfg.entity)
    done = [session.identity for session in waiting if session not in failed]
    if done:
        drawn = link(done, cfg.project, cfg.entity)
        print(f"uploaded {len(done)} ({len(set(done))} runs), lineage: {drawn} artifacts linked")
    if failed:
        names = "\n  ".join(str(session.folder) for session in failed)
        raise LabError(f"W&B did not take {len(failed)}; the same command tries them again:\n  {names}")
