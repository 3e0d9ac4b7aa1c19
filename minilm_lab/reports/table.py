"""A table of scores: rows × columns of values over seeds, beside the paper's numbers.

Only what was measured or printed in a paper is stored, a `Cell` each; `Table.frame` has every value by row, column and
seed, `Table.summary` means, deviations and texts, both with the averages and shares that are worked out.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from minilm_lab.errors import LabError, nearest

if TYPE_CHECKING:
    import pandas as pd

SCORE = "score"
"""Kind of a column measured on a task; the average is over these."""
MEASURE = "measure"
"""Kind of a column of something else that is measured or counted: parameters, speed-up."""
AVERAGE = "average"
"""Kind of a column worked out: the mean over the score columns of a row."""
KEPT = "kept"
"""Kind of a column worked out: the row's average in percent of its teacher's average."""
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
    """What is stored of one row in one column: a value a seed, and the paper's number."""

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
        rows = _distinct_keys("row", [row.key for row in self.rows])
        columns = _distinct_keys("column", [column.key for column in self.columns])
        for row in self.rows:
            if row.teacher is not None:
                _known(f"row {row.key!r}: teacher={row.teacher!r} is no row", row.teacher, rows)
        for key, line in self.cells.items():
            _known(f"cells of row {key!r}: no such row", key, rows)
            for name, cell in line.items():
                _known(f"cell of column {name!r}: no such column", name, columns)
                if cell.values and self.column(name).kind in (AVERAGE, KEPT):
                    raise LabError(
                        f"cell ({key!r}, {name!r}): this column is worked out from the scores; "
                        "store only the paper's number in it"
                    )

    def column(self, key: str) -> Column:
        """Return the column called `key`."""
        return next(column for column in self.columns if column.key == key)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One line a value, in the order of rows and columns: `row`, `column`, `seed`, `value`.

        `seed` is missing where a value has none. A value that is not finite is NaN. Averages have one value a seed
        where all averaged columns were run with the same seeds, so that their deviation is that of the average;
        otherwise, and as shares of the teacher, a single value without a seed.
        """
        import pandas as pd

        averages = {row.key: dict(self._average(row.key)) for row in self.rows}
        lines = []
        for row in self.rows:
            for column in self.columns:
                if column.kind == AVERAGE:
                    pairs: Iterable[tuple[int | None, float]] = averages[row.key].items()
                elif column.kind == KEPT:
                    pairs = _share(averages[row.key], averages.get(row.teacher or "", {}))
                else:
                    pairs = _pairs(self.cells.get(row.key, {}).get(column.key, EMPTY))
                lines += [(row.key, column.key, seed, value) for seed, value in pairs]
        return pd.DataFrame(lines, columns=["row", "column", "seed", "value"]).astype(
            {"seed": "Int64", "value": float}
        )

    def _average(self, row: str) -> Iterator[tuple[int | None, float]]:
        """The means over the averaged score columns by seed; none unless every one of them has a value."""
        cells = [
            dict(_pairs(self.cells.get(row, {}).get(column.key, EMPTY), numbered=True))
            for column in self.columns
            if column.kind == SCORE and column.averaged
        ]
        if not cells or not all(cells):
            return
        seeds = sorted(cells[0])
        if seeds[0] >= 0 and all(sorted(cell) == seeds for cell in cells):
            yield from ((seed, statistics.fmean(cell[seed] for cell in cells)) for seed in seeds)
        else:
            yield None, statistics.fmean(statistics.fmean(cell.values()) for cell in cells)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """One line for each place of the table, in its order.

        `row`, `column` (keys); `mean`, `sd` (n − 1; NaN with fewer than two values), `n`, `values` (a list);
        `paper` (NaN where there is none), `paper_unverified`, `paper_source`, `setting`.
        """
        import pandas as pd

        values = {key: list(group) for key, group in self.frame.groupby(["row", "column"])["value"]}
        lines = []
        for row in self.rows:
            for column in self.columns:
                measured = values.get((row.key, column.key), [])
                stored = asdict(self.cells.get(row.key, {}).get(column.key, EMPTY))
                paper = math.nan if stored["paper"] is None else stored["paper"]
                statistic = {"mean": _mean(measured), "sd": _sd(measured), "n": len(measured)}
                place = {"row": row.key, "column": column.key}
                lines.append(place | stored | {"values": measured, "paper": paper} | statistic)
        names = ["row", "column", "mean", "sd", "n", *asdict(EMPTY)]
        return pd.DataFrame(lines, columns=names).drop(columns="seeds")

    @cached_property
    def _places(self) -> dict[tuple[str, str], Any]:
        return {(cell.row, cell.column): cell for cell in self.summary.itertuples(index=False)}

    def cell(self, row: str, column: str) -> Any:
        """Return a line of `summary` as a named tuple: `.mean`, `.sd`, `.n`, `.values`, `.paper`, …"""
        return self._places[row, column]

    def line(self, column: str) -> list[Any]:
        """Return the cells of one column, in the order of rows."""
        return [self.cell(row.key, column) for row in self.rows]

    def measured(self, column: str) -> bool:
        """Whether a cell of the column has a value."""
        return any(cell.n for cell in self.line(column))

    @property
    def headline(self) -> Column | None:
        """The column that stands for the table: its average, else its first averaged score, if measured."""
        candidates = [c for c in self.columns if c.kind == AVERAGE]
        candidates += [c for c in self.columns if c.kind == SCORE and c.averaged]
        return next((column for column in candidates if self.measured(column.key)), None)

    def seed_counts(self) -> tuple[int, int]:
        """Return the least and the greatest number of seeds of a score cell that has values; (0, 0) if none."""
        counts = [cell.n for c in self.columns if c.kind == SCORE for cell in self.line(c.key) if cell.n]
        return (min(counts), max(counts)) if counts else (0, 0)

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
        try:
            return cls(
                **{
                    **data,
                    "title": str(data["title"]),
                    "rows": [_row(row) for row in data["rows"]],
                    "columns": [Column(**column) for column in data["columns"]],
                    "cells": {
                        row: {column: _cell(cell) for column, cell in line.items()}
                        for row, line in data.get("cells", {}).items()
                    },
                    "caption": Caption(**data.get("caption", {})),
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LabError(f"the JSON is not a table: {type(error).__name__} {error}") from error


def _pairs(cell: Cell, numbered: bool = False) -> Iterator[tuple[Any, float]]:
    """Seed and value; where values have no seeds, None, or −1, −2, … if `numbered`."""
    for place, (seed, value) in enumerate(zip_longest(cell.seeds, cell.values)):
        yield (-1 - place if seed is None and numbered else seed), value if math.isfinite(value) else math.nan


def _share(ours: Mapping[Any, float], theirs: Mapping[Any, float]) -> list[tuple[None, float]]:
    if not ours or not theirs or not statistics.fmean(theirs.values()):
        return []
    return [(None, 100 * statistics.fmean(ours.values()) / statistics.fmean(theirs.values()))]


def _mean(values: list[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def _sd(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan


def _distinct_keys(what: str, keys: list[str]) -> set[str]:
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise LabError(f"{what} keys {twice} are there twice; each {what} needs its own key")
    return set(keys)


def _known(problem: str, key: str, choices: set[str]) -> None:
    if key not in choices:
        raise LabError(f"{problem}.{nearest(key, choices)}")


def _row(data: Any) -> Row:
    for name, value in dict(data.get("coordinates", {})).items():
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise ValueError(f"coordinate {name}={value!r} must be text or a number")
    return Row(**data)


def _cell(data: Any) -> Cell:
    values = [math.nan if value is None else float(value) for value in data.get("values", [])]
    paper = data.get("paper")
    return Cell(**{**data, "values": values, "paper": None if paper is None else float(paper)})


def _no_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _no_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_no_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
