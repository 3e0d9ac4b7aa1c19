"""Mirrors of metrics.jsonl: Weights & Biases, Trackio, TensorBoard, CSV files, or none."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from minilm_lab.errors import LabError
from minilm_lab.runs import wandb_access
from minilm_lab.runs.facets import flatten

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

PROJECT = "minilm-lab"
"""Of W&B runs whose project nobody names."""


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
        from pytorch_lightning.loggers import CSVLogger

        return [CSVLogger(save_dir=folder, name="csv", version="")]


@dataclass
class TensorBoard:
    """Lightning's TensorBoard logger, in the run's folder: `tensorboard --logdir <paths.runs>` shows all runs."""

    def __post_init__(self) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise LabError(
                "logger=tensorboard needs the package tensorboard, which is not installed: "
                "pip install 'minilm-lab[tensorboard]', or choose logger=csv"
            )

    def build(self, folder: Path, about: Mapping[str, Any]) -> list[Logger]:
        """Event files with the metrics, and the settings for the tab of hyperparameters."""
        from pytorch_lightning.loggers import TensorBoardLogger

        from minilm_lab.training import wandb_run

        logger = TensorBoardLogger(save_dir=folder, name="tensorboard", version="", default_hp_metric=False)
        settings = flatten(wandb_run.settings_of(folder, about))
        logger.hparams.update({key: value for key, value in settings.items() if value is not None})
        return [logger]


@dataclass
class Trackio:
    """Trackio, local and without an account: `trackio show --project minilm-lab` opens its dashboard.

    Metrics and settings are mirrored; lineage and tables are on the lab's own page (`minilm-lab report`).
    """

    project: str = PROJECT
    """Project of all runs."""
    group: Optional[str] = None
    """Runs to compare; null = the experiment's name."""

    def __post_init__(self) -> None:
        if importlib.util.find_spec("trackio") is None:
            raise LabError(
                "logger=trackio needs the package trackio, which is not installed: "
                "pip install 'minilm-lab[trackio]', or choose logger=csv"
            )

    def build(self, folder: Path, about: Mapping[str, Any]) -> list[Logger]:
        """One Trackio run, called by the run's name, identity included: a resumed run stays one run."""
        from minilm_lab.training import wandb_run
        from minilm_lab.training.trackio_run import TrackioLogger

        settings = flatten(wandb_run.settings_of(folder, about))
        known = {key: value for key, value in settings.items() if value is not None}
        group = self.group or about.get("experiment") or None
        return [TrackioLogger(self.project, folder.name, group, known)]


@dataclass
class Wandb:
    """Weights & Biases through Lightning's logger; offline where nobody is logged in."""

    project: str = PROJECT
    """Project of all runs; left as it is, WANDB_PROJECT decides."""
    entity: Optional[str] = None
    """User or team; null = the default one of the login."""
    group: Optional[str] = None
    """Runs to compare; null = the experiment's name."""
    tags: list[str] = field(default_factory=list)
    """Tags of every run, beside those of its experiment, teacher, objective and task."""

    def __post_init__(self) -> None:
        if self.project == PROJECT:
            self.project = os.environ.get("WANDB_PROJECT") or PROJECT

    def build(self, folder: Path, about: Mapping[str, Any]) -> list[Logger]:
        """One W&B run whose id is the run's identity, so that a resumed run stays one run.

        about: "identity", "command", "name", "experiment", and "names" of the parts and the "origin" of a
        fine-tuned model; the what-config is read from the folder.
        """
        from minilm_lab.training import wandb_run

        if wandb_run.is_aside(about["command"]):
            return []
        return [wandb_run.MirrorLogger(wandb_run.start(self, folder, about))]


def finish(
    loggers: list[Logger],
    summary: Mapping[str, Any],
    *,
    made: tuple[str, Path] | None = None,
    used: str | None = None,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write the summary and the record, link artifacts to runs and close the mirrors.

    Must be called in the job that opened them: W&B would merge the jobs of a multirun into one run otherwise.

    made: (run identity, folder) of the student that this run made: it becomes an artifact.
    used: identity of the run that made the student this run used: the dashboard shows the lineage.
    record: the command's own part of the record, from which tables are made without the run's folder.
    """
    from pytorch_lightning.loggers import TensorBoardLogger

    from minilm_lab.training import wandb_run
    from minilm_lab.training.trackio_run import TrackioLogger

    for logger in loggers:
        if isinstance(logger, wandb_run.MirrorLogger):
            wandb_run.complete(logger, summary, made, used, record)
        elif isinstance(logger, TensorBoardLogger):
            scores = {key: value for key, value in summary.items() if isinstance(value, (int, float))}
            logger.log_hyperparams(dict(logger.hparams), scores)
        elif isinstance(logger, TrackioLogger):
            logger.summarise(
                {key: value for key, value in summary.items() if isinstance(value, (int, float))}
            )
        logger.finalize("success")
    close()


def answer_sweep(name: str, value: float) -> None:
    """Write the number of a run that was answered from its record, and so has opened no W&B run, into the run that a
    W&B sweep has opened for this process; nothing outside a sweep."""
    if os.environ.get(wandb_access.SWEEP):
        import wandb

        run = wandb.init()
        run.summary[name] = value
        run.finish()


def close() -> None:
    """End an open W&B run, if there is one; as failed while an exception is on its way."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=0 if sys.exc_info()[0] is None else 1)
