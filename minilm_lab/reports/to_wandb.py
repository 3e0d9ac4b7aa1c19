"""A table as a run of Weights & Biases: the ablation as `wandb.Table`, with the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilm_lab.errors import LabError
from minilm_lab.reports.records import Record
from minilm_lab.reports.renderers import to_csv, to_markdown
from minilm_lab.reports.table import Table
from minilm_lab.reports.text import texts
from minilm_lab.runs import wandb_access
from minilm_lab.runs.identity import identity_of, slug

if TYPE_CHECKING:
    import pandas as pd


def log_table(
    table: Table,
    *,
    name: str,
    logger: Any,
    folder: Path,
    experiment: str = "",
    records: Iterable[Record] = (),
) -> str | None:
    """Log a table as one W&B run of the job type `table` and return the run's id; None where W&B is not the logger.

    The id is made of the table's name, rows, columns and scale: rendered again, it is the same run.

    Args:
        table: what to log.
        name: the table's name, `experiments/<name>`.
        logger: the logger of the table's runs (`training.loggers.Wandb`).
        folder: where W&B keeps its files: `<runs>/tables/<name>`, where `minilm-lab sync` looks.
        experiment: the group of the table's runs.
        records: of the runs behind the table; their ids stand in its config, and online it is linked to their scores.

    Raises:
        LabError: another W&B run is open.
    """
    if not hasattr(logger, "project"):
        return None
    import wandb

    if wandb.run is not None:
        raise LabError(
            f"the W&B run {wandb.run.id} is still open: finish it before the table {name} is logged"
        )
    folder.mkdir(parents=True, exist_ok=True)
    behind = sorted({record.identity for record in records if record.command == "finetune"})
    identity = identity_of("table", _identity(table, name))
    mode: Any = wandb_access.mode(folder.parent.parent)
    run = wandb.init(
        project=logger.project,
        entity=logger.entity,
        id=identity,
        name=slug(name, table.caption.scale),
        group=logger.group or experiment or name,
        job_type="table",
        tags=[*dict.fromkeys([*logger.tags, name[:64]])],
        dir=folder,
        resume="allow",
        config={
            "command": "table",
            "table": name,
            "scale": {"name": table.caption.scale},
            "runs": ",".join(behind),
        },
        **({"mode": mode} if mode else {}),
    )
    try:
        shown = texts(table).to_numpy().tolist()
        wide = [[row.title, *line] for row, line in zip(table.rows, shown, strict=True)]
        cells = long(table)
        run.log(
            {
                "table": wandb.Table(columns=["row", *(c.title for c in table.columns)], data=wide),
                "cells": wandb.Table(columns=list(cells), data=cells.to_numpy().tolist()),
            }
        )
        run.summary.update({"rows": len(table.rows), "seeds": table.seed_counts()[1]})
        artifact = wandb.Artifact(slug("table", name), type="table", metadata={"scale": table.caption.scale})
        for file, text in (
            ("table.json", table.to_json()),
            ("table.csv", to_csv(table)),
            ("table.md", to_markdown(table)),
        ):
            with artifact.new_file(file, mode="w", encoding="utf-8") as stream:
                stream.write(text)
        run.log_artifact(artifact)
        if not run.offline and not run.disabled:
            _link(run, behind)
    finally:
        run.finish()
    return identity


def long(table: Table) -> pd.DataFrame:
    """Return a line for each cell that we or the paper have a number for: what dashboards filter, group and plot.

    Row (key, title, control), column, mean, sd, n, values, the paper's number, the setting that was chosen, then the
    row's coordinates. What is not there is None.
    """
    import pandas as pd

    rows = pd.DataFrame(
        [(r.key, r.title, r.control) for r in table.rows], columns=["row", "title", "control"]
    )
    places = pd.DataFrame([dict(row.coordinates) for row in table.rows])
    for axis in places:
        # A column of a wandb.Table has one type.
        if not pd.api.types.is_numeric_dtype(places[axis].infer_objects()):
            places[axis] = places[axis].map(str, na_action="ignore")
    cells = table.summary.query("n > 0 or paper.notna()")
    cells = rows.join(places).merge(cells, on="row")
    cells["values"] = [", ".join(f"{value:.4f}" for value in values) for values in cells["values"]]
    cells = cells[[*rows, *table.summary.columns[1:], *places]].astype(object)
    return cells.where(cells.notna(), None)


def _identity(table: Table, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "rows": [row.key for row in table.rows],
        "columns": [column.key for column in table.columns],
        "scale": table.caption.scale,
    }


def _link(run: Any, behind: Iterable[str]) -> None:
    """Draw the lineage from the scores behind the table; one that W&B does not have is left out."""
    import wandb

    for identity in behind:
        try:
            run.use_artifact(f"score-{identity}:latest")
        except (wandb.errors.Error, ValueError):
            continue
