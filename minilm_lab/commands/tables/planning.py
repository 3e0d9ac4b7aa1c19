"""The runs behind the cells of a table."""

from __future__ import annotations

import gc
import importlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from minilm_lab.commands.tables.composition import Composer
from minilm_lab.commands.tables.spec import ColumnSpec, RowSpec, TableSpec
from minilm_lab.errors import LabError
from minilm_lab.once import read_once
from minilm_lab.runs.graph import Run, walk


@dataclass(frozen=True)
class CellPlan:
    """The runs behind one cell."""

    row: RowSpec
    column: ColumnSpec
    settings: dict[tuple[str, ...], list[Run]]
    """Those that the cell is chosen of: what the table's `choose` sets -> a run for each seed. One without overrides where
    nothing is chosen."""
    words: list[str]
    """The overrides that make the cell, without those of a setting and the seed."""

    @property
    def first(self) -> Run:
        """The first seed of the first setting, which tells the model."""
        return next(iter(self.settings.values()))[0]


def command_of(name: str) -> Any:
    """The module of a command whose runs may fill a cell: `plan(cfg)`, `plan_seeds(cfg, seeds)` and `SEED`."""
    return importlib.import_module(f"minilm_lab.commands.{name}")


def plan(spec: TableSpec, words: Sequence[str], seeds: int) -> list[CellPlan]:
    """Plan every run of the table; all of it is checked before the first one starts.

    words: the overrides of every run (`TableSpec.words`); those of rows and columns come after them.
    """
    planned = []
    named = {row.command or column.command for row in spec.rows for column in spec.columns}
    composers = {command: Composer(command) for command in named}
    with read_once(), _without_collections():
        for row, column in itertools.product(spec.rows, spec.columns):
            if row.command is not None:
                column = replace(column, command=row.command)
            own = cell_words(words, row, column)
            choose = column.choose if spec.choose and column.choose is not None else spec.choose
            try:
                settings = {
                    setting: command_of(column.command).plan_seeds(cfg, range(seeds))
                    for setting, cfg in composers[column.command].variants(own, settings_of(choose))
                }
            except LabError as error:
                raise LabError(f"row {row.key}, column {column.key}: {error}") from error
            cell = CellPlan(row, column, settings, own)
            planned.append(replace(cell, row=replace(row, title=_title(row.title, cell.first))))
    return planned


@contextmanager
def _without_collections() -> Iterator[None]:
    """No garbage collection: all that planning makes stays, and to look through it again and again takes a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def settings_of(choose: Mapping[str, Sequence[Any]]) -> list[tuple[str, ...]]:
    """Overrides of every combination, in the order of the grid; one without overrides where nothing is chosen."""
    axes = [[f"{key}={value}" for value in values] for key, values in choose.items()]
    return list(itertools.product(*axes))


def cell_words(words: Sequence[str], row: RowSpec, column: ColumnSpec) -> list[str]:
    """The overrides of a cell. Settings of the objective do not reach a row that has none."""
    own = [*words, *row.overrides, *column.overrides]
    objectives = [word for word in own if word.startswith("objective=")]
    if objectives and objectives[-1] == "objective=none":
        own = [word for word in own if not word.lstrip("+~").startswith("objective.")]
    return own


def _title(title: str, run: Run) -> str:
    student = run.input("distill")
    size = student.what["student"] if student is not None else {}
    shape = f"{size['layers']} × {size['hidden_size']}" if size else ""
    return title.replace("{shape}", shape).replace("{teacher}", run.job.names.get("teacher", ""))


def cell_runs(planned: Sequence[CellPlan]) -> list[Run]:
    """The runs of the cells, one seed of the whole table first: stopped half-way, it can be rendered with fewer seeds."""
    return list({run.identity: run for _, _, run in _by_seed(planned)}.values())


def words_of(planned: Sequence[CellPlan]) -> dict[str, tuple[str, list[str]]]:
    """Identity of every run that the table needs -> a command and its overrides that need it, for another process."""
    found: dict[str, tuple[str, list[str]]] = {}
    for cell, setting, run in _by_seed(planned):
        seed = command_of(run.command).SEED
        words = [*cell.words, *setting, *([f"{seed}={run.what['seed']}"] if seed else [])]
        for needed in walk([run]):
            found.setdefault(needed.identity, (run.command, words))
    return found


def _by_seed(planned: Sequence[CellPlan]) -> Iterator[tuple[CellPlan, tuple[str, ...], Run]]:
    seeds = max((len(runs) for cell in planned for runs in cell.settings.values()), default=0)
    for index in range(seeds):
        for cell in planned:
            for setting, runs in cell.settings.items():
                if index < len(runs):
                    yield cell, setting, runs[index]
