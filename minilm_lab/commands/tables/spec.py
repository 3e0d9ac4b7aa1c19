"""experiments/<name>/table.yaml: the rows and columns of a table, and what differs from scale to scale."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from omegaconf import OmegaConf

from minilm_lab import config
from minilm_lab.commands.composing import conf_folder
from minilm_lab.errors import LabError, nearest
from minilm_lab.reports import cells, table

#: Columns that every table has after its own, for which a row may also hold the paper's number.
WORKED_OUT = ("average", "kept", "parameters", "speed")


@dataclass
class RowSpec:
    """One model of a table."""

    key: str
    title: str
    """Its name; `{shape}` stands for layers × hidden size of the student, `{teacher}` for the teacher's name."""
    overrides: list[str]
    """What makes this row, as Hydra overrides of `finetune`."""
    command: Optional[str] = None
    """The command whose runs fill this row, such as evaluate for a model that is not trained; null = the columns'."""
    control: bool = False
    teacher: bool = False
    """Whether this row is the teacher, of which the others keep a share."""
    kept_of: Optional[str] = None
    """The row of which this one keeps a share; null = the first with `teacher: true`."""
    paper: dict[str, Any] = field(default_factory=dict)
    """The paper's number for each column it has one for: a number, or {value, source, unverified}."""
    coordinates: dict[str, Any] = field(default_factory=dict)
    """Where the row lies in a grid, such as {layer: 5, relations: qq.kk.vv}: for heat maps and plots."""


@dataclass
class GridSpec:
    """Rows for all combinations of some choices: an ablation."""

    title: str
    """Of a row; `{axis}` stands for its choice on that axis, `{shape}` and `{teacher}` as in any row."""
    axes: dict[str, dict[str, list[str]]]
    """Axis -> choice -> its overrides. The choice is the row's coordinate on that axis."""
    controls: list[str] = field(default_factory=list)
    """Axes that change the student itself: for each combination of their choices there is a row without
    distillation."""

    def rows(self) -> list[RowSpec]:
        """The rows, the first axis slowest; controls before what they are compared with."""
        made: dict[str, RowSpec] = {}
        for combination in itertools.product(*(choices.items() for choices in self.axes.values())):
            chosen = {axis: choice for axis, (choice, _) in zip(self.axes, combination, strict=True)}
            words = {axis: list(w) for axis, (_, w) in zip(self.axes, combination, strict=True)}
            if self.controls:
                kept = {axis: chosen[axis] for axis in self.controls}
                own = [w for axis in self.controls for w in words[axis]]
                key = "-".join([*kept.values(), "none"])
                title = "{shape}: not distilled (" + ", ".join(f"{a} {c}" for a, c in kept.items()) + ")"
                made.setdefault(key, RowSpec(key, title, [*own, "objective=none"], control=True))
            title = self.title
            for axis, choice in chosen.items():
                title = title.replace(f"{{{axis}}}", choice)
            key = "-".join(chosen.values())
            every = [w for part in words.values() for w in part]
            made[key] = RowSpec(key, title, every, coordinates=dict(chosen))
        return list(made.values())


@dataclass
class ColumnSpec:
    """One score of a table."""

    key: str
    title: str
    overrides: list[str]
    """What makes this column, as Hydra overrides of its command."""
    command: str = "finetune"
    """The command whose runs fill it: finetune or evaluate."""
    metric: Optional[str] = None
    """One of the task's metrics; null = the one that stands for the task."""
    note: str = ""
    averaged: bool = True
    choose: Optional[dict[str, list[Any]]] = None
    """In place of the table's `choose`, where it has one; null = that, {} = this column has nothing to choose."""


@dataclass
class AtScale:
    """What is different at one scale."""

    overrides: list[str] = field(default_factory=list)
    """Overrides of every run at this scale, after the table's own."""
    rows: list[str] = field(default_factory=list)
    """Keys of the rows that this scale has; empty = all."""
    columns: list[ColumnSpec] = field(default_factory=list)
    """In place of the table's columns; empty = these."""
    notes: list[str] = field(default_factory=list)
    choose: Optional[dict[str, list[Any]]] = None
    """In place of the table's `choose`; null = that."""


@dataclass
class TableSpec:
    """The file of a table."""

    title: str
    intro: str
    """What the page says above the table."""
    rows: list[RowSpec]
    columns: list[ColumnSpec]
    based_on: Optional[str] = None
    """A file of experiments/ that several tables share: what this one does not say is taken from there."""
    overrides: list[str] = field(default_factory=list)
    """Overrides of every run, such as experiment=…"""
    scale: Optional[str] = None
    """The scale when the command names none; null = that of the experiment."""
    at: dict[str, AtScale] = field(default_factory=dict)
    """Scale -> what is different there. A table that has this runs at these scales alone."""
    grid: Optional[GridSpec] = None
    """Rows for all combinations of some choices, after `rows`."""
    choose: dict[str, list[Any]] = field(default_factory=dict)
    """Setting of `finetune` -> values. Each combination is run with every seed; a cell takes the best mean."""
    paper: str = ""
    """Where the paper's numbers stand, such as "MiniLM, Table 3"."""
    notes: list[str] = field(default_factory=list)

    def words(self, given: Sequence[str]) -> list[str]:
        """The overrides of every run: the table's, those of its scale, then what the user gave, which wins."""
        chosen = [word.partition("=")[2] for word in given if word.startswith("scale=")]
        scale = chosen[-1] if chosen else self.scale
        if not self.at or scale is None:
            return [*self.overrides, *given]
        self._check_scale(scale)
        return [f"scale={scale}", *self.overrides, *self.at[scale].overrides, *given]

    def at_scale(self, scale: str) -> TableSpec:
        """The table as it is at one scale."""
        if not self.at:
            return self
        self._check_scale(scale)
        here = self.at[scale]
        rows = [row for row in self.rows if not here.rows or row.key in here.rows]
        return replace(
            self,
            rows=rows,
            columns=here.columns or self.columns,
            notes=[*self.notes, *here.notes],
            choose=self.choose if here.choose is None else here.choose,
        )

    def choosing(self, choose: Any) -> TableSpec:
        """The table with the user's own settings to choose of, in every column."""
        check_choices(choose, "choose")
        return replace(self, choose=choose, columns=[replace(column, choose=None) for column in self.columns])

    def _check_scale(self, scale: str) -> None:
        if scale not in self.at:
            known = ", ".join(self.at)
            raise LabError(f"scale={scale}: this table has {known}.{nearest(scale, self.at)}")


def experiments_folder() -> Path:
    """The folder of tables, beside the configs."""
    return conf_folder().parent / "experiments"


def known_tables() -> list[str]:
    """Names of the tables, in their order: table2 before table10."""
    names = [path.parent.name for path in experiments_folder().glob("*/table.yaml")]
    return sorted(names, key=lambda name: (name.rstrip("0123456789"), len(name), name))


def read_spec(name: str) -> TableSpec:
    """Read and check experiments/<name>/table.yaml."""
    file = experiments_folder() / name / "table.yaml"
    if name not in known_tables():
        known = known_tables()
        raise LabError(f"name={name}: no such table.{nearest(name, known)} There are: {', '.join(known)}")
    values = _read(file)
    if values.get("based_on"):
        base = experiments_folder() / f"{values['based_on']}.yaml"
        if not base.is_file():
            raise LabError(f"{file}: based_on={values['based_on']}: there is no {base}")
        merged = OmegaConf.to_container(OmegaConf.merge(_read(base), values))
        assert isinstance(merged, dict)
        values = {str(key): value for key, value in merged.items()}
    spec = config.from_values(TableSpec, values, f"experiments/{name}")
    assert isinstance(spec, TableSpec)
    if spec.grid is not None:
        _check_grid(spec.grid, file)
        spec = replace(spec, rows=[*spec.rows, *spec.grid.rows()], grid=None)
    _check(spec, file)
    return spec


def with_table(words: Sequence[str]) -> list[str]:
    """Put the table's own overrides before the user's, so that these can change what its experiment chooses."""
    names = [word.removeprefix("name=") for word in words if word.startswith("name=")]
    return read_spec(names[-1]).words(words) if names else list(words)


def _read(file: Path) -> dict[str, Any]:
    values = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    if not isinstance(values, dict):
        raise LabError(f"{file} must hold settings: title, intro, rows, columns")
    plain = _text_keys(values)
    assert isinstance(plain, dict)
    return plain


def _text_keys(value: Any) -> Any:
    """Keys as text: YAML reads the choice `4:` of a grid as a number."""
    if isinstance(value, dict):
        return {str(key): _text_keys(inner) for key, inner in value.items()}
    return [_text_keys(inner) for inner in value] if isinstance(value, list) else value


def _check_grid(grid: GridSpec, file: Path) -> None:
    for axis in grid.controls:
        if axis not in grid.axes:
            raise LabError(f"{file}: grid.controls has {axis}, which is no axis.{nearest(axis, grid.axes)}")
    for axis, choices in grid.axes.items():
        if not choices:
            raise LabError(f"{file}: grid.axes.{axis} has no choices")


def check_choices(choose: Any, where: str) -> None:
    """Refuse what is no mapping of settings to values."""
    if not isinstance(choose, dict):
        raise LabError(f"{where}={choose}: give settings and their values, such as {{tune.lr: [2e-5, 5e-5]}}")
    for key, values in choose.items():
        if not isinstance(values, list) or not values or len(set(map(str, values))) != len(values):
            raise LabError(f"{where}.{key}={values}: give one value or more, each once, such as [2e-5, 5e-5]")


def _check(spec: TableSpec, file: Path) -> None:
    keys = [row.key for row in spec.rows]
    every = [*spec.columns, *(column for here in spec.at.values() for column in here.columns)]
    columns = {column.key for column in every} | set(WORKED_OUT)
    for row in spec.rows:
        if row.kept_of is not None and row.kept_of not in keys:
            raise LabError(
                f"{file}: rows.{row.key}.kept_of={row.kept_of} is no row.{nearest(row.kept_of, keys)}"
            )
        for column, number in row.paper.items():
            where = f"rows.{row.key}.paper.{column}"
            if column not in columns:
                raise LabError(f"{file}: {where}: no such column.{nearest(column, columns)}")
            cells.with_paper(table.Cell(), number, where)
    check_choices(spec.choose, f"{file}: choose")
    for each in every:
        check_choices(each.choose or {}, f"{file}: columns.{each.key}.choose")
    for scale, here in spec.at.items():
        check_choices(here.choose or {}, f"{file}: at.{scale}.choose")
        for key in here.rows:
            if key not in keys:
                raise LabError(f"{file}: at.{scale}.rows has {key}, which is no row.{nearest(key, keys)}")
