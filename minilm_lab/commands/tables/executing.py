"""Do what a table misses, here or through a launcher. A run that fails stops no other."""

from __future__ import annotations

import gc
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from omegaconf import DictConfig

from minilm_lab.commands import distill as distilling
from minilm_lab.commands import finetune as finetuning
from minilm_lab.commands.launching import launch
from minilm_lab.commands.tables.planning import CellPlan, Job, finetunings, preparations
from minilm_lab.errors import LabError, told
from minilm_lab.runs.files import read_json

log = logging.getLogger(__name__)


def here(planned: Sequence[CellPlan]) -> list[str]:
    """Run one after another in this process, each student when the first score needs it. Returns what failed."""
    failed: dict[str, str] = {}
    missing = [job for job in finetunings(planned) if job.folder.result() is None]
    for number, job in enumerate(missing, 1):
        student = job.student.path if job.student is not None else None
        if student is not None and str(student) in failed:
            failed[str(job.folder.path)] = f"not run: its student failed ({student})"
            continue
        log.info("run %d of %d: %s", number, len(missing), job.folder.name)
        try:
            job.make()
        except Exception as error:
            broken = student if job.student is not None and job.student.result() is None else job.folder.path
            log.error("failed: %s: %s", broken, error, exc_info=not isinstance(error, LabError))
            failed[str(broken)] = told(error)
        # A trainer and its model refer to each other: without this the models of many runs pile up.
        gc.collect()
    return [f"{path}: {reason}" for path, reason in failed.items()]


def launched(planned: Sequence[CellPlan]) -> list[str]:
    """Run through the chosen launcher, stage by stage: what others need is done once and first."""
    failed: list[str] = []
    for level, stage in enumerate(preparations(planned)):
        failed += _stage(f"stage {level + 1}", stage, partial(prepare, level))
    ready: list[Job] = []
    lost: list[Job] = []
    for job in finetunings(planned):
        (ready if job.student is None or job.student.result() is not None else lost).append(job)
    failed += _stage("fine-tuning", ready, score)
    return failed + [f"{job.folder.path}: not run: its student failed" for job in lost]


def _stage(name: str, jobs: Sequence[Job], task: Any) -> list[str]:
    missing = [job for job in jobs if job.folder.result() is None]
    if not missing:
        return []
    log.info("%s: %d of %d runs to do", name, len(missing), len(jobs))
    trouble = launch(task, [job.words for job in missing])
    return [
        f"{job.folder.path}: {_reason(job) or trouble or 'no error was recorded'}"
        for job in missing
        if job.folder.result() is None
    ]


def _reason(job: Job) -> str:
    status = read_json(job.folder.path / "status.json")
    error = str(status.get("error") or "") if isinstance(status, dict) else ""
    return f"{error} (log: {job.folder.error_log})" if error and job.folder.error_log.is_file() else error


def prepare(level: int, cfg: DictConfig) -> None:
    """In a job's process: make one of the runs that lead to a student, and no more."""
    _quietly(lambda: distilling.steps(distilling.plan(cfg))[level].make())


def score(cfg: DictConfig) -> None:
    """In a job's process: one fine-tuning."""
    _quietly(lambda: finetuning.finetune(finetuning.plan(cfg)))


def _quietly(work: Any) -> None:
    from minilm_lab.commands.cli import prepare_process

    prepare_process()
    try:
        work()
    except Exception as error:  # told by the run's status; raised, it would end the launcher's other jobs
        log.error("failed: %s", error, exc_info=not isinstance(error, LabError))
