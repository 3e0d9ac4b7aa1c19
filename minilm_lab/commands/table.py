"""`minilm-lab table`: run what a table still misses, then render it from the records."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from minilm_lab import config
from minilm_lab.commands import distill as distilling
from minilm_lab.commands import finetune as finetuning
from minilm_lab.commands import speed
from minilm_lab.commands.composing import compose_command, conf_folder
from minilm_lab.errors import LabError, nearest
from minilm_lab.reports import cells, curves, records, table
from minilm_lab.reports.page import write_page
from minilm_lab.reports.plots import loss_curve_png, scores_png
from minilm_lab.reports.renderers import print_table, write_files
from minilm_lab.tasks.base import Splits

log = logging.getLogger(__name__)
#: Overrides of this command that are not the runs'.
OWN = ("name", "dry", "render", "out")


@dataclass
class RowSpec:
    """One model of a table."""

    key: str
    title: str
    overrides: list[str]
    """What makes this row, as Hydra overrides of `finetune`."""
    control: bool = False
    teacher: bool = False
    """Whether this row is the teacher, of which the others keep a share."""
    paper: dict[str, float] = field(default_factory=dict)
    """The paper's number for each column it has one for."""


@dataclass
class ColumnSpec:
    """One score of a table."""

    key: str
    title: str
    overrides: list[str]
    """What makes this column, as Hydra overrides of `finetune`."""
    metric: Optional[str] = None
    """One of the task's metrics; null = the one that stands for the task."""
    note: str = ""
    averaged: bool = True


@dataclass
class TableSpec:
    """experiments/<name>/table.yaml."""

    title: str
    intro: str
    """What the page says above the table."""
    rows: list[RowSpec]
    columns: list[ColumnSpec]
    overrides: list[str] = field(default_factory=list)
    """Overrides of every run, such as experiment=…"""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CellPlan:
    """The runs behind one cell, one a seed."""

    row: RowSpec
    column: ColumnSpec
    plans: list[finetuning.FinetunePlan]


def experiments_folder() -> Path:
    """The folder of tables, beside the configs."""
    return conf_folder().parent / "experiments"


def read_spec(name: str) -> TableSpec:
    """Read and check experiments/<name>/table.yaml."""
    file = experiments_folder() / name / "table.yaml"
    if not file.is_file():
        known = sorted(p.parent.name for p in experiments_folder().glob("*/table.yaml"))
        raise LabError(f"name={name}: no such table.{nearest(name, known)} There are: {', '.join(known)}")
    values = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    if not isinstance(values, dict):
        raise LabError(f"{file} must hold settings: title, intro, rows, columns")
    spec = config.from_values(TableSpec, values, f"experiments/{name}")
    assert isinstance(spec, TableSpec)
    return spec


def plan(spec: TableSpec, overrides: Sequence[str], seeds: int) -> list[CellPlan]:
    """Plan every run of the table; all of it is checked before the first one starts."""
    planned = []
    known: dict[str, tuple[Splits, str]] = {}
    for row in spec.rows:
        for column in spec.columns:
            words = [*spec.overrides, *overrides, *row.overrides, *column.overrides]
            plans = finetuning.plan_seeds(compose_command("finetune", words), range(seeds), known)
            planned.append(CellPlan(row, column, plans))
    return planned


def execute(planned: Sequence[CellPlan]) -> list[str]:
    """Do what is missing; a run that fails does not stop the others. Returns what failed."""
    failed: dict[str, str] = {}
    # One seed of the whole table first: a table that is stopped half-way can be rendered with fewer seeds.
    by_seed = itertools.chain.from_iterable(zip(*(cell.plans for cell in planned), strict=True))
    missing = {p.folder.path: p for p in by_seed if p.folder.result() is None}
    for number, (path, ready) in enumerate(missing.items(), 1):
        log.info("run %d of %d: %s", number, len(missing), ready.folder.name)
        try:
            finetuning.finetune(ready)
        except Exception as error:
            log.error("failed: %s: %s", path, error, exc_info=not isinstance(error, LabError))
            failed[str(path)] = f"{type(error).__name__}: {error}"
        # A trainer and its model refer to each other: without this the models of many runs pile up.
        gc.collect()
    return [f"{path}: {reason}" for path, reason in failed.items()]


def build(
    spec: TableSpec, planned: Sequence[CellPlan], runs: Path, scale: str, speed_run: str | None
) -> table.Table:
    """The table as a pure function of the records."""
    by_identity = {(r.command, r.identity): r for r in records.load(runs)}

    def of(cell: CellPlan) -> list[records.Record]:
        found = (by_identity.get(("finetune", p.folder.identity)) for p in cell.plans)
        return [record for record in found if record is not None and record.completed]

    teacher = next((row.key for row in spec.rows if row.teacher), None)
    columns = [
        table.Column(c.key, c.title, note=c.note, averaged=c.averaged, decimals=1) for c in spec.columns
    ]
    if sum(c.averaged for c in spec.columns) > 1:
        columns.append(table.Column("average", "Average", kind=table.AVERAGE))
    columns += [
        table.Column("kept", "Kept", note="share of the teacher's average", kind=table.KEPT, suffix=" %"),
        table.Column("parameters", "Parameters", kind=table.MEASURE, suffix=" M"),
        table.Column(
            "speed", "Speed-up", note="of a forward pass", kind=table.MEASURE, decimals=2, suffix="×"
        ),
    ]
    contents: dict[str, dict[str, table.Cell]] = {row.key: {} for row in spec.rows}
    everything: list[records.Record] = []
    for cell in planned:
        found = of(cell)
        everything += found
        paper = cell.row.paper.get(cell.column.key)
        contents[cell.row.key][cell.column.key] = cells.score_cell(found, cell.column.metric, paper=paper)
    for row in spec.rows:
        own = [r for cell in planned if cell.row is row for r in of(cell)]
        contents[row.key]["parameters"] = cells.parameters_cell(own)
        if speed_run is not None and ("speed", speed_run) in by_identity:
            contents[row.key]["speed"] = cells.speed_cell([by_identity["speed", speed_run]], row.key)
    rows = [table.Row(r.key, r.title, control=r.control, teacher=teacher) for r in spec.rows]
    caption = dataclasses.replace(cells.caption_of(everything, notes=spec.notes), scale=scale)
    caption = dataclasses.replace(caption, selection=_selection(everything))
    return table.Table(spec.title, rows, columns, contents, caption)


def _selection(found: Sequence[records.Record]) -> str:
    best = any("best on dev" in str(r.get("selection")) for r in found)
    return "best epoch, chosen on the dev set" if best else "last epoch, nothing chosen on the dev set"


def _distillations(planned: Sequence[CellPlan]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for cell in planned:
        for ready in cell.plans:
            if ready.distillation is not None and ready.distillation.job.objective.trains:
                found.setdefault(
                    ready.distillation.folder.identity, (cell.row.title, ready.distillation.folder)
                )
    return found


def with_table(words: Sequence[str]) -> list[str]:
    """Put the table's own overrides before the user's, so that these can change what its experiment chooses."""
    names = [word.removeprefix("name=") for word in words if word.startswith("name=")]
    return [*(read_spec(names[-1]).overrides if names else []), *words]


def run(cfg: DictConfig) -> None:
    """Entry point for Hydra."""
    if OmegaConf.is_missing(cfg, "name"):
        known = ", ".join(sorted(p.parent.name for p in experiments_folder().glob("*/table.yaml")))
        raise LabError(f"name must be given, for example name=demo. There are: {known}")
    spec = read_spec(cfg.name)
    given = [o for o in HydraConfig.get().overrides.task if o not in spec.overrides]
    overrides = [o for o in given if o.split("=")[0].lstrip("+~") not in OWN]
    composed = compose_command("finetune", [*spec.overrides, *overrides])
    planned = plan(spec, overrides, composed.scale.seeds)
    if cfg.dry:
        _say_plan(planned)
        return
    failed = [] if cfg.render else execute(planned)
    how = planned[0].plans[0].job.how
    students = {p.distillation.folder for cell in planned for p in cell.plans if p.distillation is not None}
    complete = all(folder.result() is not None for folder in students)
    speed_run = _speed(cfg.name, spec, planned) if complete else None
    made = build(spec, planned, how.runs, composed.scale.name, speed_run)
    out = Path(cfg.out) if cfg.out else how.runs / "tables" / cfg.name
    page = _write(out, spec, made, planned, how.runs)
    print_table(made)
    print(f"page: {page.resolve()}\nfiles: {out.resolve()}")
    if failed:
        raise LabError("some runs failed; the same command tries them again:\n  " + "\n  ".join(failed))


def _speed(name: str, spec: TableSpec, planned: Sequence[CellPlan]) -> str | None:
    teacher = next((row.key for row in spec.rows if row.teacher), None)
    if teacher is None:
        return None
    first = {cell.row.key: cell.plans[0] for cell in reversed(planned)}
    sources = {key: ready.job.source for key, ready in first.items()}
    keys = {key: ready.what["source"] for key, ready in first.items()}
    return speed.measure(name, teacher, sources, keys, planned[0].plans[0].job.how).identity


def _write(out: Path, spec: TableSpec, made: table.Table, planned: Sequence[CellPlan], runs: Path) -> Path:
    by_identity = {r.identity: r for r in records.load(runs) if r.command == "distill"}
    shown = [
        curves.curve_of(by_identity[identity], title)
        for identity, (title, _) in _distillations(planned).items()
        if identity in by_identity
    ]
    write_files(made, out)
    scores_png(made, out / "scores.png")
    if shown:
        loss_curve_png(shown, out / "loss.png")
    return write_page(out / "index.html", spec.title, spec.intro, made, shown, spec.notes)


def _say_plan(planned: Sequence[CellPlan]) -> None:
    seen: set[Path] = set()
    for cell in planned:
        for ready in cell.plans:
            first = distilling.needed(ready.distillation) if ready.distillation else []
            for folder in [*first, ready.folder]:
                if folder.path not in seen:
                    seen.add(folder.path)
                    print(f"{'done' if folder.result() else 'to do':<6} {folder.path}")
