"""`minilm-lab report`: one HTML page of every table, committed or made here."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from omegaconf import DictConfig

from minilm_lab.commands.tables import spec as specs
from minilm_lab.errors import LabError
from minilm_lab.reports import cells, records, table
from minilm_lab.reports.found import Planned, find
from minilm_lab.reports.overview import report_html
from minilm_lab.reports.page import write_whole
from minilm_lab.runs.environment import commit


def planned(name: str) -> Planned:
    """What experiments/<name>/table.yaml says: rows and columns, and the paper's numbers."""
    try:
        spec = specs.read_spec(name)
    except LabError as error:
        return Planned(name, problem=str(error))
    papers = {key for row in spec.rows for key in row.paper}
    columns = [table.Column(c.key, c.title, note=c.note, averaged=c.averaged) for c in spec.columns]
    if "average" in papers:
        columns.append(table.Column("average", "Average", kind=table.AVERAGE))
    if "parameters" in papers:
        columns.append(table.Column("parameters", "Parameters", kind=table.MEASURE, suffix=" M"))
    if "speed" in papers:
        columns.append(table.Column("speed", "Speed-up", kind=table.MEASURE, decimals=2, suffix="×"))
    rows = [
        table.Row(r.key, _unfilled(r.title), control=r.control, coordinates=r.coordinates) for r in spec.rows
    ]
    numbers = {
        row.key: {
            column.key: cells.with_paper(
                table.Cell(), _named(row.paper[column.key], spec.paper), f"rows.{row.key}.paper.{column.key}"
            )
            for column in columns
            if column.key in row.paper
        }
        for row in spec.rows
    }
    made = table.Table(spec.title, rows, columns, numbers)
    return Planned(spec.title, spec.intro, made, list(spec.at))


def _named(number: object, source: str) -> object:
    return {"source": source, **(number if isinstance(number, dict) else {"value": number})}


def _unfilled(title: str) -> str:
    """A row's title without the names and shapes that a run fills in: '{shape} (½ depth): MiniLM'."""
    title = re.sub(r"\{\w+\} \(([^)]*)\)", r"\1", title)
    return title.replace("{shape}", "student").replace("{teacher}", "teacher")


def run(cfg: DictConfig) -> None:
    """Entry point for Hydra."""
    runs = Path(cfg.paths.runs)
    found = find(specs.experiments_folder(), runs, {name: planned(name) for name in specs.known_tables()})
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    html = report_html(found, records.load(runs), made=made, commit=commit())
    page = write_whole(cfg.out or runs / "report.html", html)
    measured = sum(bool(experiment.results) for experiment in found)
    print(f"tables: {measured} measured, {len(found) - measured} not\npage: {page.resolve()}")
