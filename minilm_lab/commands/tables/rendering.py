"""A table from the records: a pure function of them, then files and a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minilm_lab.commands.tables.planning import CellPlan
from minilm_lab.commands.tables.spec import WORKED_OUT, RowSpec, TableSpec
from minilm_lab.reports import cells, curves, records, table
from minilm_lab.reports.page import write_page
from minilm_lab.reports.plots import loss_curve_png, scores_png
from minilm_lab.reports.renderers import write_files


def build(
    spec: TableSpec,
    planned: Sequence[CellPlan],
    found: Sequence[records.Record],
    scale: str,
    timed: records.Record | None,
) -> table.Table:
    """The table of the records that it planned; what is not there is a dash."""
    by_identity = {(r.command, r.identity): r for r in found}

    def of(cell: CellPlan) -> list[records.Record]:
        own = (by_identity.get(("finetune", p.folder.identity)) for p in cell.plans)
        return [record for record in own if record is not None and record.completed]

    # The planned rows have their titles filled in.
    rows = list({cell.row.key: cell.row for cell in planned}.values())
    contents: dict[str, dict[str, table.Cell]] = {row.key: {} for row in rows}
    everything: list[records.Record] = []
    for cell in planned:
        everything += of(cell)
        contents[cell.row.key][cell.column.key] = cells.score_cell(of(cell), cell.column.metric)
    for row in rows:
        own = [r for cell in planned if cell.row.key == row.key for r in of(cell)]
        contents[row.key]["parameters"] = cells.parameters_cell(own)
        if timed is not None:
            contents[row.key]["speed"] = cells.speed_cell([timed], row.key)
    columns = _columns(spec)
    _add_paper(spec, rows, columns, contents)
    caption = dataclasses.replace(cells.caption_of(everything, notes=spec.notes), scale=scale)
    caption = dataclasses.replace(caption, selection=_selection(everything))
    return table.Table(spec.title, _rows(rows), columns, contents, caption)


def _columns(spec: TableSpec) -> list[table.Column]:
    columns = [
        table.Column(c.key, c.title, note=c.note, averaged=c.averaged, decimals=1) for c in spec.columns
    ]
    if sum(c.averaged for c in spec.columns) > 1:
        columns.append(table.Column("average", "Average", kind=table.AVERAGE))
    return [
        *columns,
        table.Column("kept", "Kept", note="share of the teacher's average", kind=table.KEPT, suffix=" %"),
        table.Column("parameters", "Parameters", kind=table.MEASURE, suffix=" M"),
        table.Column(
            "speed", "Speed-up", note="of a forward pass", kind=table.MEASURE, decimals=2, suffix="×"
        ),
    ]


def _add_paper(
    spec: TableSpec,
    rows: Sequence[RowSpec],
    columns: Sequence[table.Column],
    contents: dict[str, dict[str, table.Cell]],
) -> None:
    keys = {column.key for column in columns}
    for row in rows:
        for key, number in row.paper.items():
            # The paper's numbers are of its own tasks: another scale may have other columns.
            if key not in keys or (key in WORKED_OUT and not _same_columns(spec, row)):
                continue
            cell = contents[row.key].get(key, table.Cell())
            named = number if isinstance(number, dict) else {"value": number}
            where = f"rows.{row.key}.paper.{key}"
            contents[row.key][key] = cells.with_paper(cell, {"source": spec.paper, **named}, where)


def _same_columns(spec: TableSpec, row: RowSpec) -> bool:
    return all(column.key in row.paper for column in spec.columns if column.averaged)


def _rows(rows: Sequence[RowSpec]) -> list[table.Row]:
    teacher = next((row.key for row in rows if row.teacher), None)
    present = {row.key for row in rows}
    return [
        table.Row(
            row.key,
            row.title,
            control=row.control,
            teacher=row.kept_of if row.kept_of in present else teacher,
            coordinates=row.coordinates,
        )
        for row in rows
    ]


def _selection(found: Sequence[records.Record]) -> str:
    best = any("best on dev" in str(r.get("selection")) for r in found)
    return "best epoch, chosen on the dev set" if best else "last epoch, nothing chosen on the dev set"


def write(
    out: Path,
    spec: TableSpec,
    made: table.Table,
    planned: Sequence[CellPlan],
    found: Sequence[records.Record],
) -> Path:
    """Write the table's files, plots and page; returns the page."""
    by_identity = {r.identity: r for r in found if r.command == "distill"}
    shown = [
        curves.curve_of(by_identity[identity], title)
        for identity, title in _distillations(planned).items()
        if identity in by_identity
    ]
    write_files(made, out)
    scores_png(made, out / "scores.png")
    if shown:
        loss_curve_png(shown, out / "loss.png")
        curves.write_curves(shown, out / "curves.json")
    return write_page(out / "index.html", spec.title, spec.intro, made, shown, spec.notes)


def _distillations(planned: Sequence[CellPlan]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for cell in planned:
        ready = cell.plans[0].distillation
        if ready is not None and ready.job.objective.trains:
            found.setdefault(ready.folder.identity, cell.row.title)
    return found
