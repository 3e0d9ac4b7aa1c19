"""A table from the records: a pure function of them, then files and a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minilm_lab.commands.tables import choosing
from minilm_lab.commands.tables.planning import CellPlan
from minilm_lab.commands.tables.spec import WORKED_OUT, RowSpec, TableSpec
from minilm_lab.reports import cells, curves, records, table
from minilm_lab.reports.renderers import write_files
from minilm_lab.reports.text import UNTUNED
from minilm_lab.runs.files import write_atomically


def build(
    spec: TableSpec,
    planned: Sequence[CellPlan],
    known: Sequence[records.Record],
    scale: str,
    timed: records.Record | None,
) -> table.Table:
    """The table of the records that it planned; what is not there is a dash."""
    done = completed(known)
    chosen = [choosing.best(cell, done) for cell in planned]
    # The planned rows have their titles filled in.
    rows = list({cell.row.key: cell.row for cell in planned}.values())
    contents: dict[str, dict[str, table.Cell]] = {row.key: {} for row in rows}
    behind: dict[str, list[records.Record]] = {row.key: [] for row in rows}
    for cell, choice in zip(planned, chosen, strict=True):
        contents[cell.row.key][cell.column.key] = choice.cell
        behind[cell.row.key] += choice.records
    for row in rows:
        contents[row.key]["parameters"] = cells.parameters_cell(behind[row.key])
        if timed is not None:
            contents[row.key]["speed"] = cells.speed_cell(timed, row.key)
    columns = _columns(spec)
    _add_paper(spec, rows, columns, contents)
    everything = [record for cell, choice in zip(planned, chosen, strict=True) for record in choice.records]
    selection = "; ".join(filter(None, [choosing.selection(planned), _selection(everything)]))
    notes = [*spec.notes, *choosing.incomplete(planned, chosen)]
    caption = cells.caption_of(everything, selection=selection, notes=notes)
    return table.Table(spec.title, _rows(rows), columns, contents, dataclasses.replace(caption, scale=scale))


def completed(known: Sequence[records.Record]) -> dict[str, records.Record]:
    """Identity -> record of the runs that are done."""
    return {record.identity: record for record in known if record.completed}


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
            where = f"rows.{row.key}.paper.{key}"
            contents[row.key][key] = cells.with_paper(cell, number, where, spec.paper)


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


def _selection(behind: Sequence[records.Record]) -> str:
    if behind and all(r.get("selection") == "nothing is trained" for r in behind):
        return UNTUNED
    best = any("best on dev" in str(r.get("selection")) for r in behind)
    return "best epoch, chosen on the dev set" if best else "last epoch, nothing chosen on the dev set"


def write(
    out: Path,
    spec: TableSpec,
    rendered: table.Table,
    planned: Sequence[CellPlan],
    known: Sequence[records.Record],
) -> Path:
    """Write the table's files, plots and page; returns the page. What shows the same numbers as before stays as it is."""
    distilled = {record.identity: record for record in known if record.command == "distill"}
    shown = [
        curves.curve_of(distilled[identity], title)
        for identity, title in _distillations(planned).items()
        if identity in distilled
    ]
    page, data = out / "index.html", [out / "table.json", out / "curves.json"]
    before = _contents(data) if _written_after(page, data) else None
    write_files(rendered, out)
    choices = choosing.choices_csv(planned, completed(known))
    if choices:
        write_atomically(out / "choices.csv", choices.encode())
    if shown:
        curves.write_curves(shown, out / "curves.json")
    if before == _contents(data):
        page.touch()
        return page
    from minilm_lab.reports import plots
    from minilm_lab.reports.heatmap import heatmap
    from minilm_lab.reports.page import write_page

    pictures = {"scores": plots.scores(rendered), "loss": plots.losses(shown), "heatmap": heatmap(rendered)}
    for name, picture in pictures.items():
        if picture is not None:
            picture.png(out / f"{name}.png")
    return write_page(page, spec.title, spec.intro, rendered, shown, spec.notes)


def _contents(files: Sequence[Path]) -> list[bytes]:
    return [file.read_bytes() if file.is_file() else b"" for file in files]


def _written_after(page: Path, files: Sequence[Path]) -> bool:
    """Whether the page was finished after these files: a killed command leaves it older."""
    written = [file.stat().st_mtime_ns for file in files if file.is_file()]
    return page.is_file() and page.stat().st_mtime_ns >= max(written, default=0)


def _distillations(planned: Sequence[CellPlan]) -> dict[str, Any]:
    """Identity of each distillation -> title of the first row with its student."""
    titles: dict[str, Any] = {}
    for cell in planned:
        student = cell.first.input("distill")
        if student is not None and student.job.objective.trains:
            titles.setdefault(student.identity, cell.row.title)
    return titles
