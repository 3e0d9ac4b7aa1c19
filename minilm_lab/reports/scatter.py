"""Score against what a model costs: parameters, speed. One table with its rows named, or many tables at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from minilm_lab.reports.drawing import COLOURS, CONTROL, FAINT, INK, WIDTH, Picture, style, wrapped
from minilm_lab.reports.table import KEPT, Column, Row, Table
from minilm_lab.reports.text import number_text, shortened

TEACHER, OTHER_CONTROL, STUDENT = "teacher", "control", "student"
_LINE = 0.19
"""Inches that the name of a row takes."""
ALL_NAMED = 12
"""Of more points than these, only some are named."""


def points(table: Table, x: str, y: str) -> pd.DataFrame:
    """Return a line for each row with a finite value in columns `x` and `y`.

    `label`; `role`: teacher, control or student; `x` what it costs, `y` what it scores, `sd` (NaN where unknown).
    """
    teachers = {row.teacher for row in table.rows}
    lines = [
        (row.title, _role(row, teachers), cost.mean, score.mean, score.sd)
        for row, cost, score in zip(table.rows, table.line(x), table.line(y), strict=True)
        if not math.isnan(cost.mean + score.mean)
    ]
    return pd.DataFrame(lines, columns=["label", "role", "x", "y", "sd"])


def scatter(table: Table, x: str, *, more_is_better: bool = False) -> Picture | None:
    """Return the headline score against column `x`, every row named.

    None unless two rows at least have both and their costs differ: with one size there is nothing to trade.
    Of more than twelve rows, controls are named and students than which no other is both better and cheaper.

    Args:
        table: the table.
        x: key of a column.
        more_is_better: whether a greater value of `x` is the better one (speed), not a cost (parameters).
    """
    column = table.headline
    across = next((c for c in table.columns if c.key == x), None)
    if column is None or across is None:
        return None
    shown = points(table, x, column.key)
    if shown["x"].nunique() < 2:
        return None
    named = shown if len(shown) <= ALL_NAMED else shown[~_beaten(shown, more_is_better)]
    with style():
        figure = Figure(figsize=(WIDTH, max(3.2, 0.9 + _LINE * len(named))), layout="constrained")
        axes = figure.subplots()
        _mark(axes, shown, COLOURS[1], CONTROL)
        axes.set_xlabel(_axis_title(across))
        axes.set_ylabel(column.title)
        _frame(axes)
        _name(axes, named, (figure.get_figheight() - 0.8) / _LINE)
    words = "; ".join(
        f"{p.label}: {column.title} {number_text(p.y, column)} at {number_text(p.x, across)}"
        for p in shown.itertuples()
    )
    return Picture(figure, f"{column.title} against {across.title.lower()}: {table.title}", f"{words}.")


def survey(tables: Sequence[tuple[str, Table]], x: str) -> Picture | None:
    """Return the share of the teacher that every row of all tables keeps against column `x`, a panel a table.

    In each panel the points of all the other tables lie behind its own, in grey. None where no table has both.

    Args:
        tables: (name, table) pairs; those without such columns or values are passed over.
        x: key of a column that they share, such as `parameters`.
    """
    series: list[tuple[str, Column, pd.DataFrame]] = []
    for name, table in tables:
        kept = next((column.key for column in table.columns if column.kind == KEPT), None)
        across = next((column for column in table.columns if column.key == x), None)
        if kept is not None and across is not None:
            # The teacher is 100 % of itself, whatever its size: it is drawn as a line.
            shown = points(table, x, kept).query("role != @TEACHER")
            series += [(name, across, shown)] if len(shown) else []
    if not series:
        return None
    everything = pd.concat([shown for _, _, shown in series])
    across = series[0][1]
    with style():
        lines = math.ceil(len(series) / 2)
        figure = Figure(figsize=(WIDTH, 0.5 + 1.7 * lines), layout="constrained")
        panels = figure.subplots(lines, 2, sharex=True, sharey=True, squeeze=False).flat
        for (name, _, shown), axes in zip(series, panels, strict=False):
            axes.axhline(100, color=INK, linewidth=1)
            axes.plot(everything["x"], everything["y"], ".", color=FAINT, alpha=0.45, markersize=4)
            _mark(axes, shown, COLOURS[1], COLOURS[0], size=5)
            axes.set_title(wrapped(name, 28), loc="left", fontsize=8.5)
            axes.tick_params(labelsize=8.5)
            _frame(axes)
        for axes in list(panels):
            axes.set_visible(False)
        if len(series) % 2 and lines > 1:
            figure.axes[len(series) - 2].tick_params(labelbottom=True)
        figure.supxlabel(_axis_title(across), fontsize=10)
        figure.supylabel("% of the teacher's average", fontsize=10)
    words = "; ".join(
        f"{name}: "
        + ", ".join(f"{p.label} {p.y:.1f} % at {number_text(p.x, column)}" for p in shown.itertuples())
        for name, column, shown in series
    )
    return Picture(figure, f"Share of the teacher's average against {across.title.lower()}", f"{words}.")


def _beaten(shown: pd.DataFrame, more_is_better: bool) -> pd.Series:
    """Whether a line is a student that another beats in one of score and cost and equals in the other at least."""
    gain = shown["x"] if more_is_better else -shown["x"]
    students = shown["role"] == STUDENT
    beaten = [
        bool((students & (shown["y"] >= y) & (gain >= g) & ((shown["y"] != y) | (gain != g))).any())
        for y, g in zip(shown["y"], gain, strict=True)
    ]
    return students & pd.Series(beaten, shown.index)


def _role(row: Row, teachers: set[str | None]) -> str:
    if row.control and row.key in teachers:
        return TEACHER
    return OTHER_CONTROL if row.control else STUDENT


def _mark(axes: Axes, shown: pd.DataFrame, colour: str, control: str, size: float = 6.5) -> None:
    looks = {
        TEACHER: ("D", INK, INK),
        OTHER_CONTROL: ("s", "none", control),
        STUDENT: ("o", colour, colour),
    }
    for role, group in shown.groupby("role"):
        marker, face, edge = looks[str(role)]
        spread = {"yerr": group["sd"], "elinewidth": 1, "capsize": 2, "ecolor": edge}
        _, caps, bars = axes.errorbar(
            group["x"], group["y"], fmt=marker, mfc=face, mec=edge, ms=size, zorder=3, **spread
        )
        for part in (*caps, *bars):
            part.set_alpha(0.7)


def _frame(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.margins(x=0.12, y=0.1)


def _axis_title(column: Column) -> str:
    unit = column.suffix.strip()
    return f"{column.title} ({unit})" if unit else column.title


def _name(axes: Axes, shown: pd.DataFrame, lines: float) -> None:
    """Write the names right of the axes, from top to bottom as the points lie, joined to them by thin lines."""
    low, high = axes.get_ylim()
    ordered = shown.sort_values("y", ascending=False, kind="stable")
    places = spread([(y - low) / (high - low) for y in ordered["y"]], 1 / lines)
    arrow = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "alpha": 0.7, "shrinkA": 1, "shrinkB": 4}
    for point, place in zip(ordered.itertuples(), places, strict=True):
        axes.annotate(
            shortened(point.label, 27),
            (point.x, point.y),
            (1.07, place),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            annotation_clip=False,
            arrowprops=arrow,
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
