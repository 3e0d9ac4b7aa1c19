"""Plots with matplotlib, as inline SVG (follows the page's text colour) or as PNG."""

from __future__ import annotations

import hashlib
import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from minilm_lab.errors import LabError
from minilm_lab.reports.curves import Curve, describe, smooth, thin
from minilm_lab.reports.table import AVERAGE, SCORE, Column, Table
from minilm_lab.reports.text import caption_sentences, cell_text, number_text, one_line

LineStyle = Literal["-", "--", ":"]

#: Series colours, told apart by the colour-blind (Okabe and Ito) and readable on white and on near-black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9")
_STYLES: tuple[LineStyle, ...] = ("-", "--", ":")

# Drawn in these two, which in the SVG are replaced by the colours of the page around it.
_INK = "#1d2127"
_FAINT = "#9aa1ab"
_CONTROL = "#868d97"
_WIDTH = 4.8  # inches: text of 10 points stays legible when the plot is as wide as a phone

_RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "minilm-lab",
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "text.parse_math": False,
    "text.color": _INK,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "grid.alpha": 0.3,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def loss_curve_svg(curves: Sequence[Curve]) -> str:
    """Return the loss curves as an SVG element with a text alternative; `""` when no curve has a point."""
    if not _any_points(curves):
        return ""
    with _style():
        return _svg(_loss_figure(curves), "Loss by step", " ".join(describe(curve) for curve in curves))


def loss_curve_png(curves: Sequence[Curve], path: str | Path) -> Path:
    """Write the loss curves as a PNG on white; return its path.

    Raises:
        LabError: no curve has a point.
    """
    if not _any_points(curves):
        raise LabError(f"no losses to plot in {path}: curves={[c.label for c in curves]} have no points")
    with _style():
        return _png(_loss_figure(curves), path)


def scores_svg(table: Table) -> str:
    """Return a bar a row and score column (mean, sd, a dot a seed) as SVG; `""` when nothing was measured."""
    columns = _plotted(table)
    if not columns:
        return ""
    with _style():
        return _svg(
            _scores_figure(table, columns), f"Scores: {table.title}", _scores_in_words(table, columns)
        )


def scores_png(table: Table, path: str | Path) -> Path:
    """Write the scores as a PNG on white; return its path.

    Raises:
        LabError: no score was measured.
    """
    columns = _plotted(table)
    if not columns:
        raise LabError(f"no scores to plot in {path}: the table {table.title!r} has no measured score")
    with _style():
        return _png(_scores_figure(table, columns), path)


def series_style(index: int) -> tuple[str, LineStyle]:
    """Return colour and line style of a series; they repeat together only after 18 series."""
    return COLOURS[index % len(COLOURS)], _STYLES[index // len(COLOURS) % len(_STYLES)]


def _any_points(curves: Sequence[Curve]) -> bool:
    return any(curve.training or curve.held_out for curve in curves)


def _loss_figure(curves: Sequence[Curve]) -> Figure:
    # The legend stands above the axes, a line a curve: names of runs are long.
    figure = Figure(figsize=(_WIDTH, 3.2 + 0.22 * len(curves)), layout="constrained")
    axes = figure.subplots()
    handles = []
    for index, curve in enumerate(curves):
        colour, style = series_style(index)
        if curve.training:
            axes.plot(*_xy(thin(curve.training)), color=colour, linewidth=0.7, alpha=0.3)
            axes.plot(*_xy(thin(smooth(curve.training))), color=colour, linestyle=style, linewidth=1.6)
        if curve.held_out:
            axes.plot(*_xy(curve.held_out), color=colour, linewidth=0, marker="o", markersize=4.5)
        handles.append(
            Line2D(
                [],
                [],
                color=colour,
                linestyle=style,
                linewidth=1.6,
                marker="o" if curve.held_out else "",
                ms=4.5,
            )
        )
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.margins(x=0.02)
    if handles:
        # A legend would leave out names that begin with an underscore; a space before them is not seen.
        names = [_shortened(curve.label, 50) for curve in curves]
        names = [f" {name}" if name.startswith("_") else name for name in names]
        figure.legend(handles, names, loc="outside upper left", handlelength=2.2, labelspacing=0.3)
    return figure


def _plotted(table: Table) -> list[Column]:
    """Score columns with a value; of more than four, the average alone if the table has one."""
    columns = [column for column in table.columns if column.kind == SCORE and _measured(table, column)]
    averages = [column for column in table.columns if column.kind == AVERAGE and _measured(table, column)]
    return averages[:1] if len(columns) > 4 and averages else columns


def _measured(table: Table, column: Column) -> bool:
    return any(table.cell(row.key, column.key).n for row in table.rows)


def _scores_figure(table: Table, columns: Sequence[Column]) -> Figure:
    panels = len(columns)
    height = panels * (0.7 + 0.38 * len(table.rows))
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    for axes, column in zip(figure.subplots(panels, 1, squeeze=False)[:, 0], columns, strict=True):
        _bars(axes, table, column)
    return figure


def _bars(axes: Axes, table: Table, column: Column) -> None:
    ends = [0.0]
    for place, row in enumerate(table.rows):
        cell = table.cell(row.key, column.key)
        colour = COLOURS[1] if not row.control else _CONTROL
        if cell.mean is None or cell.mean != cell.mean:
            axes.text(0, place, cell_text(cell, column, cell.n), va="center", ha="left", fontsize=9)
            continue
        sd = cell.sd or 0.0
        axes.barh(place, cell.mean, height=0.62, color=colour, alpha=0.45, linewidth=0)
        if cell.sd is not None:
            axes.errorbar(cell.mean, place, xerr=sd, color=_INK, capsize=3, linewidth=1.1)
            spread = [place + 0.24 * (2 * i / (cell.n - 1) - 1) for i in range(cell.n)]
            axes.plot(cell.values, spread, "o", color=colour, markersize=4, markeredgewidth=0)
        else:
            axes.plot(cell.values, [place], "o", color=colour, markersize=4, markeredgewidth=0)
        end = max(cell.mean + sd, *cell.values, 0.0)
        axes.annotate(
            number_text(cell.mean, column),
            (end, place),
            (5, 0),
            textcoords="offset points",
            va="center",
            size=9,
        )
        ends += [end, cell.mean - sd, *cell.values]
    low, high = min(ends), max(ends)
    # Bars start at 0, so that their lengths can be compared; the rest is room for the numbers behind them.
    axes.set_xlim(low * 1.05, low + (high - low or 1.0) * 1.16)
    axes.set_yticks(range(len(table.rows)), [_wrapped(row.title) for row in table.rows])
    axes.set_ylim(len(table.rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_title(one_line(column.title), loc="left")


def _scores_in_words(table: Table, columns: Sequence[Column]) -> str:
    usual = table.seed_counts()[1]
    rows = [
        f"{row.title}: "
        + ", ".join(
            f"{column.title} {cell_text(table.cell(row.key, column.key), column, usual)}"
            for column in columns
        )
        for row in table.rows
    ]
    return "; ".join(rows) + ". " + caption_sentences(table)[0]


def _xy(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _shortened(text: str, most: int) -> str:
    text = one_line(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def _wrapped(title: str) -> str:
    # Names of rows often differ only at their end: two lines before anything is cut.
    return "\n".join(textwrap.wrap(one_line(title), 22, max_lines=2, placeholder="…", break_on_hyphens=False))


@contextmanager
def _style() -> Iterator[None]:
    # The user's own matplotlib settings must not change a committed picture.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)  # type: ignore[arg-type]
        yield


def _svg(figure: Figure, title: str, description: str) -> str:
    buffer = io.StringIO()
    FigureCanvasSVG(figure)
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Width and height go, so that the page sets the size; the view box keeps the proportions.
    head, rest = svg.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    svg = f'{head} role="img" aria-label="{escape(one_line(f"{title}. {description}"))}">{rest}'
    svg = svg.replace(_INK, "currentColor").replace(_FAINT, "var(--faint, #888888)")
    svg = _own_ids(svg)
    # Text takes the font of the page.
    return re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg).strip()


def _own_ids(svg: str) -> str:
    """Give the ids that the SVG uses a prefix of its own and drop the others: ids are the whole page's."""
    prefix = f"svg{hashlib.sha256(svg.encode()).hexdigest()[:8]}-"
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", svg)
    return re.sub(r'(url\(|href=")#', rf"\1#{prefix}", svg)


def _png(figure: Figure, path: str | Path) -> Path:
    path = Path(path)
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png", dpi=160, facecolor="white")
    return path
