"""Table → CSV in long form: one line a seed of a cell, unrounded; an empty value is a missing cell."""

from __future__ import annotations

import csv
import io
import math

from minilm_lab.reports.table import Table

HEADER = ["row", "control", "column", "kind", "seed", "value", "paper", "paper_unverified", "paper_source"]


def to_csv(table: Table) -> str:
    """Return the table as CSV with the columns of `HEADER`; row and column are their keys."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    for row in table.rows:
        for column in table.columns:
            cell = table.cell(row.key, column.key)
            seeds: list[int | str] = list(cell.seeds) or [""] * max(cell.n, 1)
            values: list[float | None] = list(cell.values) or [None]
            for seed, value in zip(seeds, values, strict=True):
                writer.writerow(
                    [
                        row.key,
                        str(row.control).lower(),
                        column.key,
                        column.kind,
                        seed,
                        _number(value),
                        _number(cell.paper),
                        "" if cell.paper is None else str(cell.paper_unverified).lower(),
                        cell.paper_source,
                    ]
                )
    return out.getvalue()


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.10g}" if math.isfinite(value) else "nan"
