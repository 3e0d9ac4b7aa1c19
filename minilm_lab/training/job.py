"""What every training job does around the loop: mirrors, journal, training, product, record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from minilm_lab.runs.folder import RunFolder
from minilm_lab.training.callbacks import Journal
from minilm_lab.training.devices import precision_of
from minilm_lab.training.fit import Training, fit
from minilm_lab.training.loggers import close, finish
from minilm_lab.training.settings import How


@dataclass(frozen=True)
class Product:
    """What a job made of its training, once it is saved."""

    record: dict[str, Any]
    """The job's own part of the record."""
    summary: dict[str, float]
    """Numbers by which a dashboard sorts runs."""
    student: Path | None = None
    """Folder of the student that this run made, an artifact."""
    used: str | None = None
    """Identity of the run that made the student or teacher this run used."""


def journal_of(folder: RunFolder, how: How) -> Journal:
    """The journal of a run."""
    transformers_logging.disable_progress_bar()
    return Journal(folder.metrics, how.trainer.log_every)


def train(
    training: Training,
    journal: Journal,
    folder: RunFolder,
    how: How,
    names: Mapping[str, str],
    complete: Callable[[], Product],
    origin: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train in the run's folder, mirrored by the loggers from the first step to the last artifact.

    names: short names of the parts, for tables and dashboards. origin: of the model that is fine-tuned.
    complete: saves what was trained. Returns the command's part of the record.
    """
    about = {
        "identity": folder.identity,
        "command": folder.command,
        "name": folder.name,
        "experiment": how.experiment,
        "names": dict(names),
        "origin": origin,
    }
    loggers = how.logger.build(folder.path, about)
    try:
        fit(training, folder.path, journal, how, loggers)
        product = complete()
        record = {
            "names": dict(names),
            **product.record,
            "tokens_seen": journal.tokens,
            "precision": precision_of(how.impl, how.trainer.accelerator),
        }
        student = (folder.identity, product.student) if product.student else None
        finish(loggers, product.summary, made=student, used=product.used, record=record)
    finally:
        close()
    return record
