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
from minilm_lab.reports import paired
from minilm_lab.reports.schema import (
    AVERAGE,
    EMPTY,
    KEPT,
    KINDS,
    MEASURE,
    SCORE,
    Caption,
    Cell,
    Column,
    Row,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AVERAGE", "KEPT", "KINDS", "MEASURE", "SCORE", "Caption", "Cell", "Column", "Row", "Table"]


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
        `paper` (NaN where there is none), `paper_unverified`, `paper_source`, `setting`; `marks`: the other rows that
        it differs from (`differences`).
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
        summary = pd.DataFrame(lines, columns=names).drop(columns="seeds")
        differing = self.differences[self.differences["differs"]]
        marks = differing.groupby(["row", "column"])["mark"].agg("".join).rename("marks")
        return summary.join(marks, on=["row", "column"]).fillna({"marks": ""})

    @property
    def comparisons(self) -> list[tuple[str, str, str]]:
        """(row, other row, mark): each row that is no control against its control, and against the row above it.

        Its control is one of the same number of parameters that is no teacher: the nearest above, else the next.
        """
        sizes = {key: cell["parameters"].values for key, cell in self.cells.items() if "parameters" in cell}
        teachers = {row.teacher for row in self.rows}
        compared = []
        before = None
        for place, row in enumerate(self.rows):
            if row.control:
                continue
            same = [
                i
                for i, other in enumerate(self.rows)
                if other.control and other.key not in teachers and sizes.get(other.key) == sizes.get(row.key)
            ]
            above = [i for i in same if i < place]
            for i in above[-1:] or same[:1]:
                compared.append((row.key, self.rows[i].key, paired.CONTROL))
            if before is not None:
                compared.append((row.key, before, paired.ABOVE))
            before = row.key
        return compared

    @cached_property
    def differences(self) -> pd.DataFrame:
        """The rows' differences from those that they stand beside (`comparisons`), paired by seed: `paired.differences`."""
        kinds = {column.key for column in self.columns if column.kind in (SCORE, AVERAGE)}
        return paired.differences(self.frame[self.frame["column"].isin(kinds)], self.comparisons)

    @cached_property
    def kept(self) -> dict[str, tuple[float, float, float]]:
        """Row -> its average in percent of its teacher's over the seeds that both have, and the 95 % interval of that.

        Of rows with a teacher (not their own) and at least three such seeds.
        """
        shares = {}
        averages = {row.key: dict(self._average(row.key)) for row in self.rows}
        for row in self.rows:
            theirs = averages.get(row.teacher or "", {})
            seeds = [seed for seed in averages[row.key] if seed is not None and seed in theirs]
            if row.teacher != row.key and len(seeds) >= paired.LEAST:
                values, of = ([known[seed] for seed in seeds] for known in (averages[row.key], theirs))
                if all(map(math.isfinite, [*values, *of])) and statistics.fmean(of):
                    share = 100 * statistics.fmean(values) / statistics.fmean(of)
                    shares[row.key] = (share, *paired.interval(values, of))
        return shares

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
