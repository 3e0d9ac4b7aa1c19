"""Data for a measurement, where it can be had without asking more of the user."""

from __future__ import annotations

from pathlib import Path

from minilm_lab import hub_access
from minilm_lab.data.splits import Splits
from minilm_lab.errors import LabError
from minilm_lab.tasks.base import Task


def splits_within_reach(task: Task, hub: str | None, cache: Path) -> Splits | None:
    """The data of `task`; None where it is on a hub that does not answer.

    LabError where the user pointed to the data (a folder, paths.hub) and it is not there.
    """
    path = str(getattr(task, "path", ""))
    try:
        return task.load(hub, cache)
    except LabError:
        elsewhere = hub is not None or Path(path).exists() or path.startswith((".", "/", "~"))
        if elsewhere or hub_access.answers(path, "dataset"):
            raise
        return None
