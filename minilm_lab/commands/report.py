"""`minilm-lab report`: one HTML page of every table, committed or made here."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from omegaconf import DictConfig

from minilm_lab.commands.tables import spec as specs
from minilm_lab.errors import LabError
from minilm_lab.reports import cells, records, table
from minilm_lab.reports.results import Planned, find
from minilm_lab.runs.environment import commit
from minilm_lab.runs.files import write_atomically


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
                table.Cell(), row.paper[column.key], f"rows.{row.key}.paper.{column.key}", spec.paper
            )
            for column in columns
            if column.key in row.paper
        }
        for row in spec.rows
    }
    return Planned(spec.title, spec.intro, table.Table(spec.title, rows, columns, numbers), list(spec.at))


def _unfilled(title: str) -> str:
    """A row's title without the names and shapes that a run fills in: '{shape} (½ depth): MiniLM'."""
    title = re.sub(r"\{\w+\} \(([^)]*)\)", r"\1", title)
    return title.replace("{shape}", "student").replace("{teacher}", "teacher")


def run(cfg: DictConfig) -> None:
    """Entry point for Hydra."""
    from minilm_lab.reports.page import report_html

    runs = Path(cfg.paths.runs)
    experiments = find(
        specs.experiments_folder(), runs, {name: planned(name) for name in specs.known_tables()}
    )
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = Path(cfg.out or runs / "report.html")
    write_atomically(page, report_html(experiments, records.load(runs), date=date, commit=commit()).encode())
    measured = sum(bool(experiment.results) for experiment in experiments)
    print(f"tables: {measured} measured, {len(experiments) - measured} not\npage: {page.resolve()}")
