"""Do what a table misses, here or through a launcher. A run that fails stops no other."""

from __future__ import annotations

import gc
import logging
from collections.abc import Sequence
from functools import partial
from itertools import groupby

from omegaconf import DictConfig

from minilm_lab.commands.launching import launch
from minilm_lab.commands.tables.planning import CellPlan, cell_runs, command_of, words_of
from minilm_lab.errors import LabError, told
from minilm_lab.runs.files import read_json
from minilm_lab.runs.graph import Run, stages, walk

log = logging.getLogger(__name__)


def here(planned: Sequence[CellPlan]) -> list[str]:
    """Run one after another in this process, each student when the first score needs it. Returns what failed."""
    failed: dict[str, str] = {}
    missing = [run for run in cell_runs(planned) if not run.done]
    for number, run in enumerate(missing, 1):
        broken = next((needed for needed in walk([run]) if str(needed.folder.path) in failed), None)
        if broken is not None:
            failed[str(run.folder.path)] = f"not run: its student failed ({broken.folder.path})"
            continue
        log.info("run %d of %d: %s", number, len(missing), run.name)
        try:
            run.make()
        except Exception as error:
            broken = next(needed for needed in walk([run]) if needed is run or not needed.done)
            log.error("failed: %s: %s", broken.folder.path, error, exc_info=not isinstance(error, LabError))
            failed[str(broken.folder.path)] = told(error)
        # A trainer and its model refer to each other: without this the models of many runs pile up.
        gc.collect()
    return [f"{path}: {reason}" for path, reason in failed.items()]


def launched(planned: Sequence[CellPlan]) -> list[str]:
    """Run through the chosen launcher, stage by stage: what others need is done once and first."""
    words = words_of(planned)
    failed: list[str] = []
    for level, stage in enumerate(stages(cell_runs(planned))):
        missing = [run for run in stage if not run.done]
        lost = [run for run in missing if not all(needed.done for needed in run.inputs)]
        failed += [f"{run.folder.path}: not run: its student failed" for run in lost]
        ready = [run for run in missing if run not in lost]
        if ready:
            log.info("stage %d: %d of %d runs to do", level + 1, len(ready), len(stage))
        by_command = sorted(ready, key=lambda run: words[run.identity][0])
        for command, runs in groupby(by_command, key=lambda run: words[run.identity][0]):
            jobs = list(runs)
            trouble = launch(command, partial(make, command, level), [words[run.identity][1] for run in jobs])
            failed += [
                f"{run.folder.path}: {_reason(run) or trouble or 'no error was recorded'}"
                for run in jobs
                if not run.done
            ]
    return failed


def _reason(run: Run) -> str:
    status = read_json(run.folder.path / "status.json")
    error = str(status.get("error") or "") if isinstance(status, dict) else ""
    return f"{error} (log: {run.folder.error_log})" if error and run.folder.error_log.is_file() else error


def make(command: str, level: int, cfg: DictConfig) -> None:
    """In a job's process: make the runs of one stage of those that `cfg` needs, and no more."""
    from minilm_lab.commands.cli import prepare_process

    prepare_process()
    try:
        for run in stages([command_of(command).plan(cfg)])[level]:
            run.make()
    except Exception as error:  # told by the run's status; raised, it would end the launcher's other jobs
        log.error("failed: %s", error, exc_info=not isinstance(error, LabError))
