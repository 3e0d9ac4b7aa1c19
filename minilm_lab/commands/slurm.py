"""What submitit leaves open on a Slurm cluster: jobs where no accounting (`sacct`) is kept, and jobs that Slurm ends.

Without accounting submitit warns at every look and waits for ever for a job that was cancelled; and its launcher stops
waiting for all jobs at the first that Slurm ended. Both are put right while a launcher of the lab waits, and no longer.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)
_GONE = "GONE"
"""State of a job that the queue knows no longer; it keeps a job for some minutes after its end."""
_LOOK_EVERY = 30
"""Seconds between two looks at the queue, at most."""


@contextmanager
def waiting(launcher: str) -> Iterator[None]:
    """While a launcher waits for its jobs; launcher: its name, such as submitit_slurm. Others are left alone."""
    if "slurm" not in launcher:
        yield
        return
    from submitit.slurm.slurm import SlurmJob

    jobs: Any = SlurmJob
    watcher, results = jobs.watcher, jobs.results
    jobs.results = _patient(results)
    if not _accounted():
        jobs.watcher = _queue()
    try:
        yield
    finally:
        jobs.watcher, jobs.results = watcher, results


def _accounted() -> bool:
    """Whether `sacct` answers."""
    try:
        asked = subprocess.run(["sacct", "--noheader", "--jobs=0"], capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    return asked.returncode == 0


def _queue() -> Any:
    """Knows the states of jobs from `squeue`."""
    from submitit.slurm.slurm import SlurmInfoWatcher

    class Queue(SlurmInfoWatcher):
        def _make_command(self) -> list[str] | None:
            if not self._registered - self._finished:
                return None
            return ["squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i|%T"]

        def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
            text = string if isinstance(string, str) else string.decode()
            pairs = [line.strip().partition("|") for line in text.splitlines()]
            known = {job: {"JobID": job, "State": state} for job, _, state in pairs if state}
            gone = self._registered - self._finished - known.keys()
            return known | {job: {"JobID": job, "State": _GONE} for job in gone}

    return Queue(delay_s=_LOOK_EVERY)


def _patient(results: Any) -> Any:
    """The results of a job; one that Slurm ended is a failed job among the others."""

    def patient(job: Any) -> list[Any]:
        from hydra.core.utils import JobReturn, JobStatus
        from submitit.core.utils import UncompletedJobError

        from minilm_lab.errors import LabError

        try:
            found: list[Any] = results(job)
        except UncompletedJobError:
            why = LabError(f"Slurm ended job {job.job_id} ({job.state.lower()}); log: {job.paths.stderr}")
            log.error("%s", why)
            failed = JobReturn(status=JobStatus.FAILED)
            failed.return_value = why
            return [failed]
        return found

    return patient
