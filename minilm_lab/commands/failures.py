"""The jobs of a multirun that failed: noted by each job, in whatever process it ran, and named at the end."""

from __future__ import annotations

import functools
import json
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minilm_lab.errors import LabError, told

#: Environment variable with the file of this multirun; jobs of a launcher inherit it.
_FILE = "MINILM_LAB_FAILURES"


@contextmanager
def collected() -> Iterator[Callable[[], list[str]]]:
    """Collect the failures of jobs that are started inside; gives a function that tells those so far."""
    descriptor, name = tempfile.mkstemp(prefix="minilm-lab-", suffix=".jsonl")
    os.close(descriptor)
    os.environ[_FILE] = name
    try:
        yield lambda: [_told(json.loads(line)) for line in Path(name).read_text().splitlines()]
    finally:
        del os.environ[_FILE]
        Path(name).unlink(missing_ok=True)


def noted(run: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wrap a command's entry point: an error is noted before it goes on."""

    @functools.wraps(run)
    def job(cfg: Any) -> Any:
        try:
            return run(cfg)
        except Exception as error:
            _note(error)
            raise

    return job


def _note(error: Exception) -> None:
    from hydra.core.hydra_config import HydraConfig

    name = os.environ.get(_FILE)
    if name is None or not Path(name).is_file():  # another machine of the cluster: the run's status tells it
        return
    job = HydraConfig.get()
    entry = {
        "number": job.job.num,
        "overrides": list(job.overrides.task),
        "error": told(error),
        "traceback": None if isinstance(error, LabError) else traceback.format_exc(),
    }
    # One short write at the end of the file: jobs in several processes do not mix their lines.
    with Path(name).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")


def _told(noted: dict[str, Any]) -> str:
    line = f"job {noted['number']} ({' '.join(noted['overrides'])}): {noted['error']}"
    return line if noted["traceback"] is None else f"{line}\n{noted['traceback']}"
