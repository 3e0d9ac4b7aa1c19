"""The run graph: what is computed, from which other runs, and the work that does it.

A command's `plan` gives a `Run`; tables, reruns, dry runs, costs and launchers walk the graph that its inputs make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from minilm_lab.runs.folder import RunFolder, execute
from minilm_lab.runs.identity import identity_of


class How(Protocol):
    """How, where and how fast a run is done."""

    @property
    def runs(self) -> Path:
        """Folder of all runs."""
        ...

    def plain(self) -> dict[str, Any]:
        """For config.yaml of the run."""
        ...


class Job(Protocol):
    """The work behind a run, typed and checked; nothing is loaded yet."""

    @property
    def how(self) -> How:
        """How it is done."""
        ...

    def train(self, folder: RunFolder) -> dict[str, Any]:
        """Do it in the run's folder and return the command's own part of the record."""
        ...


@dataclass(frozen=True, eq=False)
class Run:
    """A checked run of a command; whether it was done before is told by its folder."""

    command: str
    """Of the lab, such as distill."""
    name: str
    """Short, for people; a safe name of a folder."""
    what: dict[str, Any]
    """What it computes: this alone makes its identity."""
    job: Any
    """A `Job`."""
    cost: Callable[[], float]
    """Floating-point operations that the work takes, about."""
    inputs: tuple[Run, ...] = ()
    """What must be done before it."""
    afterwards: Callable[[dict[str, Any]], None] | None = None
    """Tells others of the record, such as the card of the student that was scored; may be called again."""

    @cached_property
    def folder(self) -> RunFolder:
        """Where it is, or will be, kept."""
        return RunFolder(self.job.how.runs, self.command, self.name, identity_of(self.command, self.what))

    @property
    def identity(self) -> str:
        """By which it is found again."""
        return self.folder.identity

    @property
    def done(self) -> bool:
        """Whether there is a record of it."""
        return self.folder.result() is not None

    def make(self) -> dict[str, Any]:
        """Return the record: of a run that was done before, or of one done now, after its inputs."""
        if not self.done:
            for needed in self.inputs:
                needed.make()
        record = execute(self.folder, self.what, self.job.how.plain(), self.job.train)
        if self.afterwards is not None:
            self.afterwards(record)
        return record

    def input(self, command: str) -> Run | None:
        """The run of this command that it starts from, if there is one."""
        return next((run for run in self.inputs if run.command == command), None)


def walk(runs: Iterable[Run]) -> list[Run]:
    """Every run that these need and they themselves, each once, inputs first."""
    reached: dict[str, Run] = {}

    def visit(run: Run) -> None:
        if run.identity not in reached:
            for needed in run.inputs:
                visit(needed)
            reached.setdefault(run.identity, run)

    for run in runs:
        visit(run)
    return list(reached.values())


def stages(runs: Iterable[Run]) -> list[list[Run]]:
    """The same in groups: each needs only runs of the groups before, so those of one group can be done at once."""
    depth: dict[str, int] = {}
    groups: list[list[Run]] = []
    for run in walk(runs):
        level = depth[run.identity] = max((depth[needed.identity] + 1 for needed in run.inputs), default=0)
        if level == len(groups):
            groups.append([])
        groups[level].append(run)
    return groups
