"""A table whose rows lie in a grid, as heat maps: two coordinates are the axes, the others make panels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minilm_lab.reports.drawing import FAINT, WIDTH, Picture, style
from minilm_lab.reports.table import Column, Table
from minilm_lab.reports.text import DASH, number_text, one_line, shortened

_MAP, _LEVELS = "cividis", 32
"""From dark to bright, told apart by the colour-blind and in grey print."""


def heatmap(table: Table) -> Picture | None:
    """Return the means of a table's headline over the two coordinates of its rows that take most values (`axes_of`).

    None where nothing was measured, where rows have no two such coordinates, or two rows lie in one place (they differ
    in something that is no coordinate). Rows without both coordinates (controls) are left out. Rows that differ in
    further coordinates are drawn in a panel each, on one scale of colours; a place without a value is a dash. Numbers
    are in rising order, texts in the order of rows.
    """
    shown, axes_names = table.headline, axes_of(table)
    panels = _panels(table, *axes_names, shown.key) if shown and axes_names else {}
    finite = [v for grid in panels.values() for v in grid.to_numpy().flat if math.isfinite(v)]
    if not finite or shown is None or axes_names is None:
        return None
    x, y = axes_names
    low, high = min(finite), max(finite)
    # One value alone has the colour in the middle.
    norm = Normalize(low - 0.5, high + 0.5) if low == high else Normalize(low, high)
    colours = ScalarMappable(norm, matplotlib.colormaps[_MAP].resampled(_LEVELS))
    with style():
        height = 0.9 + sum(0.75 + 0.42 * len(grid) for grid in panels.values())
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        places = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axes, (title, grid) in zip(places, panels.items(), strict=True):
            _draw(axes, grid, shown, colours)
            axes.set_title(one_line(title), loc="left")
            axes.set_ylabel(one_line(y))
        places[-1].set_xlabel(one_line(x))
        bar = figure.colorbar(colours, ax=list(places), location="bottom", aspect=34, fraction=0.06)
        bar.outline.set_visible(False)
        bar.set_label(one_line(shown.title))
    words = ". ".join(filter(None, (_in_words(title, grid, shown, x, y) for title, grid in panels.items())))
    return Picture(figure, f"{shown.title} by {x} and {y}: {table.title}", f"{words}.")


def axes_of(table: Table) -> tuple[str, str] | None:
    """Return the two coordinates (across, downwards) that take most values; None without two of two values each.

    Of the two, a numeric one goes across.
    """
    values = pd.DataFrame([row.coordinates for row in table.rows])
    counts = values.nunique().sort_values(ascending=False, kind="stable")
    names = list(counts[counts > 1].index)[:2]
    if len(names) < 2:
        return None
    first, second = names
    numeric = [pd.api.types.is_numeric_dtype(values[name].dropna().infer_objects()) for name in names]
    return (second, first) if numeric == [False, True] else (first, second)


def _panels(table: Table, x: str, y: str, column: str) -> dict[str, pd.DataFrame]:
    """Title of a panel → means by `y` (downwards) and `x` (across), all with the same axes; none if rows share a place."""
    panels: dict[str, dict[tuple[str | float, str | float], float]] = {}
    for row, cell in zip(table.rows, table.line(column), strict=True):
        if {x, y} <= row.coordinates.keys():
            others = [f"{name} {_text(v)}" for name, v in row.coordinates.items() if name not in (x, y)]
            panel = panels.setdefault(", ".join(others), {})
            place = row.coordinates[y], row.coordinates[x]
            if place in panel:
                return {}
            panel[place] = cell.mean
    places = [place for panel in panels.values() for place in panel]
    down, across = (_ordered([place[i] for place in places]) for i in (0, 1))
    return {
        title: pd.DataFrame([[panel.get((v, h), math.nan) for h in across] for v in down], down, across)
        for title, panel in panels.items()
    }


def _ordered(values: Sequence[str | float]) -> list[str | float]:
    distinct = list(dict.fromkeys(values))
    numeric = all(isinstance(value, (int, float)) for value in distinct)
    return sorted(distinct, key=float) if numeric else distinct


def _draw(axes: Axes, grid: pd.DataFrame, column: Column, colours: ScalarMappable) -> None:
    size = 9 if grid.shape[1] <= 7 else 7
    for j, i in itertools.product(*map(range, grid.shape)):
        value = grid.iat[j, i]
        if not math.isfinite(value):
            axes.text(i, j, DASH, ha="center", va="center", fontsize=size)
            continue
        colour = tuple(colours.to_rgba(value))
        axes.add_patch(Rectangle((i - 0.48, j - 0.46), 0.96, 0.92, facecolor=colour, linewidth=0))
        # Black or white, whichever is read better on the cell's colour, in light and in dark.
        ink = "#000000" if _luminance(colour) > 0.18 else "#ffffff"
        text = number_text(value, column).removesuffix(column.suffix)
        axes.text(i, j, text, ha="center", va="center", fontsize=size, color=ink)
    axes.set_xticks(range(grid.shape[1]), [shortened(_text(value), 12) for value in grid.columns])
    axes.set_yticks(range(grid.shape[0]), [shortened(_text(value), 24) for value in grid.index])
    axes.set_xlim(-0.5, grid.shape[1] - 0.5)
    axes.set_ylim(grid.shape[0] - 0.5, -0.5)
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
        spine.set_visible(False)


def _luminance(colour: Sequence[float]) -> float:
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _text(value: str | float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _in_words(title: str, grid: pd.DataFrame, column: Column, x: str, y: str) -> str:
    cells = "; ".join(
        f"{x} {_text(across)}, {y} {_text(down)}: "
        + (number_text(value, column) if math.isfinite(value) else "not measured")
        for down, line in zip(grid.index, grid.to_numpy(), strict=True)
        for across, value in zip(grid.columns, line, strict=True)
    )
    return f"{title}: {cells}" if title else cells
