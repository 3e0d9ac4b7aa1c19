"""A table of scores: rows × columns of values over seeds, beside the paper's numbers.

Only what was measured or printed in a paper is stored; means, averages and shares are worked out from it.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

from minilm_lab.errors import LabError, nearest

#: A column measured on a task; the average is over these.
SCORE = "score"
#: A column of something else that is measured or counted: parameters, speed-up.
MEASURE = "measure"
#: A column worked out: the mean over the score columns of a row.
AVERAGE = "average"
#: A column worked out: the row's average in percent of its teacher's average.
KEPT = "kept"
KINDS = (SCORE, MEASURE, AVERAGE, KEPT)


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    key: str
    """Name in the table's cells."""
    title: str
    """Heading."""
    note: str = ""
    """What the column shows, for the caption: the metric, its definition."""
    kind: str = SCORE
    """`score`, `measure`, `average` or `kept`."""
    averaged: bool = True
    """Whether a score column counts in the average (a second metric of one task may not)."""
    decimals: int = 1
    """Digits after the point."""
    suffix: str = ""
    """Written after a number, such as ``"×"`` or ``"%"``."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise LabError(
                f"column {self.key!r}: kind={self.kind!r} is not one of {', '.join(KINDS)}."
                + nearest(self.kind, KINDS)
            )
        if self.decimals < 0:
            raise LabError(f"column {self.key!r}: decimals={self.decimals} must be 0 or more")


@dataclass(frozen=True)
class Row:
    """One row of a table: a model."""

    key: str
    """Name in the table's cells."""
    title: str
    """Heading."""
    control: bool = False
    """Whether the row is there to compare with (the teacher; a student without distillation)."""
    teacher: str | None = None
    """Key of the row whose average is 100 % for this row; may be its own."""
    coordinates: Mapping[str, str | float] = field(default_factory=dict, hash=False)
    """Where the row stands in a grid, such as `{layer: 4, relations: qq.kk.vv}`: the axes of a heat map."""


@dataclass(frozen=True)
class Cell:
    """What one row scores in one column: a value a seed, and the paper's number."""

    values: list[float] = field(default_factory=list)
    """Measured values, one a seed. A NaN stays: a run that gave no number is not left out of its mean."""
    seeds: list[int] = field(default_factory=list)
    """Seeds of the values, in their order; empty when the values have none."""
    paper: float | None = None
    """The paper's number."""
    paper_unverified: bool = False
    """Whether the paper's number was taken from elsewhere and not checked in the paper."""
    paper_source: str = ""
    """Where the paper's number stands: `P1 Table 3`."""
    setting: str = ""
    """The setting of fine-tuning that was chosen for it, where one was."""

    def __post_init__(self) -> None:
        if self.seeds and len(self.seeds) != len(self.values):
            raise LabError(f"seeds={self.seeds} must have one seed for each of {len(self.values)} values")
        if len(set(self.seeds)) != len(self.seeds):
            raise LabError(f"seeds={self.seeds} holds a seed twice; each must be there once")

    @property
    def n(self) -> int:
        """Number of values."""
        return len(self.values)

    @property
    def mean(self) -> float | None:
        """Mean of the values; None without any."""
        if not self.values:
            return None
        return statistics.fmean(self.values) if all(map(math.isfinite, self.values)) else math.nan

    @property
    def sd(self) -> float | None:
        """Sample standard deviation (n − 1); None with fewer than two values."""
        if self.n < 2:
            return None
        return statistics.stdev(self.values) if all(map(math.isfinite, self.values)) else math.nan


EMPTY = Cell()


@dataclass(frozen=True)
class Caption:
    """What a reader must know to believe a table. The number of seeds comes from its cells."""

    scale: str = ""
    """Scale the runs were made at, such as `laptop`."""
    data: list[str] = field(default_factory=list)
    """Notes on data: subset or full, split."""
    hardware: list[str] = field(default_factory=list)
    """Machines the runs were made on."""
    commits: list[str] = field(default_factory=list)
    """Commits the runs were made with."""
    selection: str = ""
    """What was chosen among, and on which data: `best of 3 learning rates, chosen on the dev set`."""
    notes: list[str] = field(default_factory=list)
    """Further sentences."""


@dataclass(frozen=True)
class Table:
    """A table; renderers take it, `to_json` stores it."""

    title: str
    rows: list[Row]
    columns: list[Column]
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)
    """Row key → column key → cell. What is not there is a dash."""
    caption: Caption = field(default_factory=Caption)

    def __post_init__(self) -> None:
        _check_keys("row", [row.key for row in self.rows])
        _check_keys("column", [column.key for column in self.columns])
        row_keys = {row.key for row in self.rows}
        column_keys = {column.key for column in self.columns}
        for row in self.rows:
            if row.teacher is not None and row.teacher not in row_keys:
                raise LabError(
                    f"row {row.key!r}: teacher={row.teacher!r} is no row." + nearest(row.teacher, row_keys)
                )
        for row_key, line in self.cells.items():
            if row_key not in row_keys:
                raise LabError(f"cells of row {row_key!r}: no such row." + nearest(row_key, row_keys))
            for column_key, cell in line.items():
                if column_key not in column_keys:
                    raise LabError(
                        f"cell of column {column_key!r}: no such column." + nearest(column_key, column_keys)
                    )
                if cell.values and self.column(column_key).kind in (AVERAGE, KEPT):
                    raise LabError(
                        f"cell ({row_key!r}, {column_key!r}): this column is worked out from the scores; "
                        "store only the paper's number in it"
                    )

    def row(self, key: str) -> Row:
        """Return the row called `key`."""
        return next(row for row in self.rows if row.key == key)

    def column(self, key: str) -> Column:
        """Return the column called `key`."""
        return next(column for column in self.columns if column.key == key)

    def cell(self, row: str, column: str) -> Cell:
        """Return a cell, worked out where its column is; an empty one where nothing is known."""
        stored = self.cells.get(row, {}).get(column, EMPTY)
        kind = self.column(column).kind
        if kind == AVERAGE:
            return self._with_paper(self.average(row), stored)
        if kind == KEPT:
            share = self.kept(row)
            return self._with_paper(EMPTY if share is None else Cell(values=[share]), stored)
        return stored

    def average(self, row: str) -> Cell:
        """Return the mean over the averaged score columns, empty unless every one of them has a value.

        When all columns were run with the same seeds, the cell has one average a seed, so that its
        deviation is that of the average. Otherwise it has a single value, the mean of the columns' means.
        """
        cells = [self.cell(row, c.key) for c in self.columns if c.kind == SCORE and c.averaged]
        means = [cell.mean for cell in cells if cell.mean is not None]
        if not cells or len(means) < len(cells):
            return EMPTY
        seeds = sorted(cells[0].seeds)
        if seeds and all(sorted(cell.seeds) == seeds for cell in cells):
            by_seed = [dict(zip(cell.seeds, cell.values, strict=True)) for cell in cells]
            return Cell([statistics.fmean(values[seed] for values in by_seed) for seed in seeds], seeds)
        return Cell([statistics.fmean(means)])

    def kept(self, row: str) -> float | None:
        """Return the row's average in percent of its teacher's; None where either is missing or 0."""
        teacher = self.row(row).teacher
        ours = self.average(row).mean
        theirs = None if teacher is None else self.average(teacher).mean
        return None if ours is None or not theirs else 100 * ours / theirs

    def seed_counts(self) -> tuple[int, int]:
        """Return the least and the greatest number of seeds of a score cell that has values; (0, 0) if none."""
        counts = [
            self.cell(row.key, column.key).n
            for row in self.rows
            for column in self.columns
            if column.kind == SCORE
        ]
        present = [count for count in counts if count]
        return (min(present), max(present)) if present else (0, 0)

    def to_json(self) -> str:
        """Return the table as JSON text that `from_json` reads back; NaN and infinities become null."""
        return json.dumps(_no_nan(asdict(self)), ensure_ascii=False, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Table:
        """Return the table that `to_json` wrote.

        Raises:
            LabError: the text is no JSON, or no table, or a key in it is unknown.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise LabError(f"the table is not JSON: {error}") from error
        data = _known(Table, data)
        try:
            return cls(
                title=str(data["title"]),
                rows=[_row(row) for row in data["rows"]],
                columns=[Column(**_known(Column, column)) for column in data["columns"]],
                cells={
                    row: {column: _cell(cell) for column, cell in line.items()}
                    for row, line in data.get("cells", {}).items()
                },
                caption=Caption(**_known(Caption, data.get("caption", {}))),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LabError(f"the JSON is not a table: {type(error).__name__} {error}") from error

    @staticmethod
    def _with_paper(cell: Cell, stored: Cell) -> Cell:
        return replace(stored, values=cell.values, seeds=cell.seeds)


_T = TypeVar("_T")


def _check_keys(what: str, keys: list[str]) -> None:
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise LabError(f"{what} keys {twice} are there twice; each {what} needs its own key")


def _row(data: object) -> Row:
    known = _known(Row, data)
    for name, value in dict(known.get("coordinates", {})).items():
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError(f"coordinate {name}={value!r} must be text or a number")
    return Row(**known)


def _cell(data: object) -> Cell:
    known = _known(Cell, data)
    values = [math.nan if value is None else float(value) for value in known.get("values", [])]
    paper = known.get("paper")
    return Cell(**{**known, "values": values, "paper": None if paper is None else float(paper)})


def _known(kind: type[_T], data: object) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise LabError(f"a table's {kind.__name__.lower()} must be a JSON object, not {type(data).__name__}")
    names: Iterable[str] = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    for key in data:
        if key not in names:
            raise LabError(f"a table's {kind.__name__.lower()} has no field {key!r}." + nearest(key, names))
    return data


def _no_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _no_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_no_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
