"""What a table is made of: columns, rows, cells as they are stored, the caption."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from minilm_lab.errors import LabError, nearest

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
