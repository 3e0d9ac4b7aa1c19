"""Mirrors of metrics.jsonl: Weights & Biases, CSV files, or none."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger

from minilm_lab.runs.ranks import is_follower

log = logging.getLogger(__name__)
_told = False


@dataclass
class NoLogger:
    """metrics.jsonl alone."""

    def build(self, folder: Path, about: Mapping[str, Any]) -> list[Logger]:
        """No mirror."""
        return []


@dataclass
class Csv:
    """Lightning's CSV logger, in the run's folder."""

    def build(self, folder: Path, about: Mapping[str, Any]) -> list[Logger]:
        """One CSV file with a column a metric."""
        return [CSVLogger(save_dir=folder, name="csv", version="")]


@dataclass
class Wandb:
    """Weights & Biases through Lightning's logger; offline where nobody is logged in."""

    project: str = "minilm-lab"
    """Project of all runs."""
    entity: Optional[str] = None
    """User or team; null = the default one of the login."""
    group: Optional[str] = None
    """Runs to compare; null = the experiment's name."""
    tags: list[str] = field(default_factory=list)
    """Tags of every run."""

    def build(self, folder: Path, about: Mapping[str, Any]) -> list[Logger]:
        """One W&B run whose id is the run's identity, so that a resumed run stays one run.

        about: "identity", "command", "name", "experiment" and "config" (the what-config).
        """
        # WANDB_MODE, when set, decides; else online only with a login.
        mode = None if os.environ.get("WANDB_MODE") else ("online" if _logged_in() else "offline")
        if mode == "offline" and not is_follower():
            _say_once(folder)
        extra: dict[str, Any] = {"mode": mode} if mode else {}
        return [
            _Quiet(
                project=self.project,
                entity=self.entity,
                id=about["identity"],
                name=about["name"],
                group=self.group or about.get("experiment") or None,
                job_type=about["command"],
                tags=list(self.tags),
                save_dir=folder,
                config=dict(about["config"]),
                **extra,
            )
        ]


class _Quiet(WandbLogger):
    """Lightning's logger without a setting that W&B warns of at every start because it has no effect."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._wandb_init.pop("anonymous", None)


def _logged_in() -> bool:
    import netrc

    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        file = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in file.hosts)


def _say_once(folder: Path) -> None:
    global _told
    if not _told:
        _told = True
        log.info(
            "W&B: not logged in, so runs are kept offline. `wandb login`, then `wandb sync %s/*/*/wandb/offline-run-*` "
            "uploads them",
            folder.parent.parent,
        )


def finish(
    loggers: list[Logger],
    summary: Mapping[str, Any],
    *,
    made: tuple[str, Path] | None = None,
    used: str | None = None,
) -> None:
    """Write the summary, link students to runs and close the mirrors.

    Must be called in the job that opened them: W&B would merge the jobs of a multirun into one run otherwise.

    made: (run identity, folder) of the student that this run made: it becomes an artifact.
    used: identity of the run that made the student this run used: the dashboard shows the lineage.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            run = logger.experiment
            run.summary.update(dict(summary))
            if made is not None:
                _log_student(run, made[0], made[1], summary)
            # Offline nothing can be looked up; the origin stands in the run's config all the same.
            if used is not None and not run.offline and not run.disabled:
                _use_student(run, used)
        logger.finalize("success")
    close()


def _log_student(run: Any, identity: str, folder: Path, summary: Mapping[str, Any]) -> None:
    import wandb

    student = wandb.Artifact(f"student-{identity}", type="student", metadata=dict(summary))
    # "immutable": the files are read where they lie, not copied first.
    student.add_dir(str(folder), policy="immutable")
    run.log_artifact(student)


def _use_student(run: Any, identity: str) -> None:
    import wandb

    try:
        run.use_artifact(f"student-{identity}:latest")
    except (wandb.errors.CommError, ValueError) as error:
        log.warning("W&B does not have the student of run %s yet (%s): no lineage is shown", identity, error)


def close() -> None:
    """End an open W&B run, if there is one (also after an error)."""
    import wandb

    if wandb.run is not None:
        wandb.finish()
