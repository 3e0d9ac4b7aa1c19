"""Score against what a model costs: parameters, speed. One table with its rows named, or many tables at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minilm_lab.reports.drawing import (
    COLOURS,
    CONTROL,
    FAINT,
    INK,
    WIDTH,
    shortened,
    style,
    svg_of,
)
from minilm_lab.reports.table import AVERAGE, KEPT, SCORE, Cell, Column, Row, Table
from minilm_lab.reports.text import number_text

TEACHER, OTHER_CONTROL, STUDENT = "teacher", "control", "student"
_LINE = 0.19  # inches that the name of a row takes
#: Of more points than these, only some are named.
ALL_NAMED = 12


@dataclass(frozen=True)
class Point:
    """One row: what it costs and what it scores."""

    label: str
    role: str
    """`teacher`, `control` or `student`."""
    x: float
    y: float
    sd: float | None = None


def headline(table: Table) -> Column | None:
    """Return the column that stands for the table: its average, else its first averaged score, if measured."""
    candidates = [c for c in table.columns if c.kind == AVERAGE]
    candidates += [c for c in table.columns if c.kind == SCORE and c.averaged]
    return next((c for c in candidates if any(table.cell(r.key, c.key).n for r in table.rows)), None)


def points(table: Table, x: str, y: str) -> list[Point]:
    """Return a point for each row that has a finite value in columns `x` and `y`."""
    found = []
    teachers = {row.teacher for row in table.rows}
    for row in table.rows:
        cost, score = table.cell(row.key, x), table.cell(row.key, y)
        if _finite(cost) and _finite(score):
            assert cost.mean is not None and score.mean is not None
            found.append(Point(row.title, _role(row, teachers), cost.mean, score.mean, score.sd))
    return found


def scatter_svg(table: Table, x: str, *, more_is_better: bool = False) -> str:
    """Return the headline score against column `x` as SVG, every row named.

    `""` unless two rows at least have both and their costs differ: with one size there is nothing to trade.
    Of more than twelve rows, controls are named and students than which no other is both better and cheaper.

    Args:
        table: the table.
        x: key of a column.
        more_is_better: whether a greater value of `x` is the better one (speed), not a cost (parameters).
    """
    column = headline(table)
    if column is None or x not in {c.key for c in table.columns}:
        return ""
    shown = points(table, x, column.key)
    if len({point.x for point in shown}) < 2:
        return ""
    across = table.column(x)
    named = shown if len(shown) <= ALL_NAMED else [*_best(shown, more_is_better)]
    with style():
        figure = Figure(figsize=(WIDTH, max(3.2, 0.9 + _LINE * len(named))), layout="constrained")
        axes = figure.subplots()
        for point in shown:
            _mark(axes, point, COLOURS[1])
        _frame(axes, _axis_title(across), column.title)
        _name(axes, named, (figure.get_figheight() - 0.8) / _LINE)
        words = "; ".join(
            f"{p.label}: {column.title} {number_text(p.y, column)} at {number_text(p.x, across)}"
            for p in shown
        )
        return svg_of(figure, f"{column.title} against {across.title.lower()}: {table.title}", words + ".")


def survey_svg(tables: Sequence[tuple[str, Table]], x: str) -> str:
    """Return the share of the teacher that every row of all tables keeps against column `x`, a colour a table.

    Args:
        tables: (name, table) pairs; those without such columns or values are passed over.
        x: key of a column that they share, such as `parameters`.
    """
    series: list[tuple[str, Column, list[Point]]] = []
    for name, table in tables:
        kept = next((column for column in table.columns if column.kind == KEPT), None)
        if kept is not None and x in {column.key for column in table.columns}:
            # The teacher is 100 % of itself, whatever its size: it is drawn as a line.
            shown = [p for p in points(table, x, kept.key) if p.role != TEACHER]
            if shown:
                series.append((name, table.column(x), shown))
    if not series:
        return ""
    across = series[0][1]
    with style():
        figure = Figure(figsize=(WIDTH, 3.0 + 0.2 * len(series)), layout="constrained")
        axes = figure.subplots()
        axes.axhline(100, color=INK, linewidth=1)
        handles = []
        for index, (_, _, shown) in enumerate(series):
            colour = COLOURS[index % len(COLOURS)]
            for point in shown:
                _mark(axes, point, colour, control=colour)
            handles.append(axes.plot([], [], "o", color=colour, markersize=6)[0])
        _frame(axes, _axis_title(across), "% of the teacher's average")
        names = [shortened(name, 52) for name, _, _ in series]
        figure.legend(handles, names, loc="outside upper left", handlelength=1, labelspacing=0.3)
        words = "; ".join(
            f"{name}: " + ", ".join(f"{p.label} {p.y:.1f} % at {number_text(p.x, column)}" for p in shown)
            for name, column, shown in series
        )
        return svg_of(figure, f"Share of the teacher's average against {across.title.lower()}", words + ".")


def _best(shown: Sequence[Point], more_is_better: bool) -> list[Point]:
    """Controls, and the students that no other student beats in one of score and cost and equals in the other."""
    sign = 1 if more_is_better else -1
    students = [point for point in shown if point.role == STUDENT]
    front = [
        p
        for p in students
        if not any(q.y >= p.y and sign * q.x >= sign * p.x and (q.y, q.x) != (p.y, p.x) for q in students)
    ]
    return [point for point in shown if point.role != STUDENT or point in front]


def _finite(cell: Cell) -> bool:
    return cell.mean is not None and math.isfinite(cell.mean)


def _role(row: Row, teachers: set[str | None]) -> str:
    if row.control and row.key in teachers:
        return TEACHER
    return OTHER_CONTROL if row.control else STUDENT


def _mark(axes: Axes, point: Point, colour: str, control: str = CONTROL) -> None:
    marker, face, edge, size = {
        TEACHER: ("D", INK, INK, 6.5),
        OTHER_CONTROL: ("s", "none", control, 6.5),
        STUDENT: ("o", colour, colour, 6.5),
    }[point.role]
    if point.sd is not None:
        axes.errorbar(point.x, point.y, yerr=point.sd, color=edge, linewidth=1, alpha=0.7, capsize=2)
    axes.plot(point.x, point.y, marker, markerfacecolor=face, markeredgecolor=edge, markersize=size, zorder=3)


def _frame(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.margins(x=0.12, y=0.1)


def _axis_title(column: Column) -> str:
    unit = column.suffix.strip()
    return f"{column.title} ({unit})" if unit else column.title


def _name(axes: Axes, shown: Sequence[Point], lines: float) -> None:
    """Write the names right of the axes, from top to bottom as the points lie, joined to them by thin lines."""
    low, high = axes.get_ylim()
    ordered = sorted(shown, key=lambda point: -point.y)
    places = spread([(point.y - low) / (high - low) for point in ordered], 1 / lines)
    for point, place in zip(ordered, places, strict=True):
        axes.annotate(
            shortened(point.label, 27),
            (point.x, point.y),
            (1.07, place),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": FAINT,
                "linewidth": 0.6,
                "alpha": 0.7,
                "shrinkA": 1,
                "shrinkB": 4,
            },
        )


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Return `places` (falling) moved apart to at least `gap`, no more than that takes, within 0 to 1 if they fit."""
    moved: list[float] = []
    for place in places:
        moved.append(min(place, moved[-1] - gap) if moved else min(place, 1.0))
    # What was pushed out below goes up again, and pushes what is above it.
    floor = 0.0
    for i in reversed(range(len(moved))):
        moved[i] = max(moved[i], floor)
        floor = moved[i] + gap
    return moved
