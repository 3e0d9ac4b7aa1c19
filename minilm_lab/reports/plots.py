"""Loss curves and bars of scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from minilm_lab.reports.curves import Curve, describe, smooth, thin
from minilm_lab.reports.drawing import (
    COLOURS,
    CONTROL,
    INK,
    WIDTH,
    Picture,
    series_style,
    style,
    wrapped,
)
from minilm_lab.reports.table import AVERAGE, SCORE, Column, Table
from minilm_lab.reports.text import caption_sentences, cell_text, number_text, one_line, shortened, texts


def losses(curves: Sequence[Curve]) -> Picture | None:
    """Return the loss curves; None when no curve has a point."""
    if not any(curve.training or curve.held_out for curve in curves):
        return None
    words = " ".join(describe(curve) for curve in curves)
    with style():
        return Picture(_loss_figure(curves), "Loss by step", words)


def scores(table: Table, columns: Sequence[Column] | None = None) -> Picture | None:
    """Return a bar a row and column (mean, sd, a dot a seed); None when nothing was measured.

    Args:
        table: the table.
        columns: some of its columns; None = its scores, or of more than four the average alone.
    """
    columns = plotted(table) if columns is None else [c for c in columns if table.measured(c.key)]
    if not columns:
        return None
    with style():
        figure = Figure(figsize=(WIDTH, len(columns) * (0.7 + 0.38 * len(table.rows))), layout="constrained")
        for axes, column in zip(figure.subplots(len(columns), 1, squeeze=False)[:, 0], columns, strict=True):
            _bars(axes, table, column)
    return Picture(figure, f"Scores: {table.title}", _scores_in_words(table, columns))


def _loss_figure(curves: Sequence[Curve]) -> Figure:
    # The legend stands above the axes, a line a curve: names of runs are long.
    figure = Figure(figsize=(WIDTH, 3.2 + 0.22 * len(curves)), layout="constrained")
    axes = figure.subplots()
    handles = []
    for index, curve in enumerate(curves):
        colour, line = series_style(index)
        if curve.training:
            axes.plot(*_xy(thin(curve.training)), color=colour, linewidth=0.7, alpha=0.3)
            axes.plot(*_xy(thin(smooth(curve.training))), color=colour, linestyle=line, linewidth=1.6)
        if curve.held_out:
            axes.plot(*_xy(curve.held_out), color=colour, linewidth=0, marker="o", markersize=4.5)
        marker = "o" if curve.held_out else ""
        handles += axes.plot(
            [], [], color=colour, linestyle=line, linewidth=1.6, marker=marker, markersize=4.5
        )
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    if _orders(curves):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylabel("loss (logarithmic)")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.margins(x=0.02)
    # A legend would leave out names that begin with an underscore; a space before them is not seen.
    names = [shortened(curve.label, 50) for curve in curves]
    names = [f" {name}" if name.startswith("_") else name for name in names]
    figure.legend(handles, names, loc="outside upper left", handlelength=2.2, labelspacing=0.3)
    return figure


def _orders(curves: Sequence[Curve]) -> bool:
    """Whether losses lie so far apart (different objectives) that the small ones would be one flat line."""
    ends = [value for curve in curves for _, value in (smooth(curve.training) or curve.held_out)[-1:]]
    return len(ends) > 1 and min(ends) > 0 and max(ends) > 10 * min(ends)


def plotted(table: Table) -> list[Column]:
    """Return the columns that are drawn as bars: score columns with a value; of more than four, the average alone if the table has one."""
    columns = [column for column in table.columns if column.kind == SCORE and table.measured(column.key)]
    averages = [column for column in table.columns if column.kind == AVERAGE and table.measured(column.key)]
    return averages[:1] if len(columns) > 4 and averages else columns


def _bars(axes: Axes, table: Table, column: Column) -> None:
    cells = table.line(column.key)
    low, high = _reach(cells)
    for place, (row, cell) in enumerate(zip(table.rows, cells, strict=True)):
        colour = COLOURS[1] if not row.control else CONTROL
        if not math.isnan(cell.paper):
            tick = ":" if cell.paper_unverified else "-"
            axes.plot([cell.paper] * 2, [place - 0.42, place + 0.42], tick, color=INK, linewidth=1.6)
        if math.isnan(cell.mean):
            axes.text(0, place, cell_text(cell, column, cell.n), va="center", ha="left", fontsize=9)
            continue
        sd = cell.sd if cell.n > 1 else 0.0
        axes.barh(place, cell.mean, height=0.62, color=colour, alpha=0.45, linewidth=0)
        spread = [place]
        if cell.n > 1:
            axes.errorbar(cell.mean, place, xerr=sd, color=INK, capsize=3, linewidth=1.1)
            spread = [place + 0.24 * (2 * i / (cell.n - 1) - 1) for i in range(cell.n)]
        axes.plot(cell.values, spread, "o", color=colour, markersize=4, markeredgewidth=0)
        end = max(cell.mean + sd, *cell.values, 0.0)
        # The number stands behind the paper's tick where the two would meet.
        if not math.isnan(cell.paper) and 0 <= cell.paper - end < 0.16 * (high - low):
            end = cell.paper
        text = number_text(cell.mean, column)
        axes.annotate(text, (end, place), (5, 0), textcoords="offset points", va="center", size=9)
    # Bars start at 0, so that their lengths can be compared; the rest is room for the numbers behind them.
    axes.set_xlim(low * 1.05, low + (high - low or 1.0) * 1.16)
    axes.set_yticks(range(len(table.rows)), [wrapped(row.title) for row in table.rows])
    axes.set_ylim(len(table.rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_title(one_line(column.title), loc="left")


def _reach(cells: Sequence[Any]) -> tuple[float, float]:
    """The least and the greatest of what bars show, 0 among them."""
    ends = [0.0]
    for cell in cells:
        if not math.isnan(cell.mean):
            sd = cell.sd if cell.n > 1 else 0.0
            ends += [cell.mean - sd, cell.mean + sd, *cell.values]
        if not math.isnan(cell.paper):
            ends.append(cell.paper)
    return min(ends), max(ends)


def _scores_in_words(table: Table, columns: Sequence[Column]) -> str:
    shown = texts(table)
    rows = [
        f"{row.title}: " + ", ".join(f"{column.title} {shown.loc[row.key, column.key]}" for column in columns)
        for row in table.rows
    ]
    return "; ".join(rows) + ". " + caption_sentences(table)[0]


def _xy(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
