"""A table whose rows lie in a grid, as heat maps: two coordinates are the axes, the others make panels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minilm_lab.errors import LabError, nearest
from minilm_lab.reports.drawing import FAINT, WIDTH, shortened, style, svg_of, write_png
from minilm_lab.reports.table import Column, Row, Table
from minilm_lab.reports.text import DASH, number_text, one_line

Value = str | float
#: From dark to bright, told apart by the colour-blind and in grey print.
_MAP = "cividis"
_LEVELS = 32


def heatmap_svg(table: Table, x: str = "layer", y: str = "relations", column: str = "average") -> str:
    """Return the value of `column` by coordinates `x` and `y` as SVG; `""` where nothing was measured.

    Rows without both coordinates (controls) are left out. Rows that differ in further coordinates are drawn in a
    panel each, on one scale of colours. A place of the grid without a value is a dash.

    Args:
        table: its rows carry coordinates.
        x: coordinate across; numbers in rising order, texts in the order of rows.
        y: coordinate downwards, ordered alike.
        column: key of a column.

    Raises:
        LabError: no row has such coordinates, there is no such column, or two rows lie in one place.
    """
    shown = _grid(table, x, y, column)
    if shown is None:
        return ""
    with style():
        figure = _figure(table, x, y, column, shown)
        title = f"{table.column(column).title} by {x} and {y}: {table.title}"
        return svg_of(figure, title, _in_words(table.column(column), x, y, shown))


def heatmap_png(
    table: Table, path: str | Path, x: str = "layer", y: str = "relations", column: str = "average"
) -> Path:
    """Write the picture of `heatmap_svg` as a PNG on white; return its path.

    Raises:
        LabError: as `heatmap_svg`, or nothing was measured.
    """
    shown = _grid(table, x, y, column)
    if shown is None:
        raise LabError(f"no heat map to draw in {path}: column {column!r} of {table.title!r} has no value")
    with style():
        return write_png(_figure(table, x, y, column, shown), path)


def axes_of(table: Table) -> tuple[str, str] | None:
    """Return the two coordinates (across, downwards) that take most values; None without two of two values each.

    Of the two, a numeric one goes across.
    """
    values: dict[str, set[Value]] = {}
    for row in table.rows:
        for name, value in row.coordinates.items():
            values.setdefault(name, set()).add(value)
    names = sorted((name for name, found in values.items() if len(found) > 1), key=lambda n: -len(values[n]))
    if len(names) < 2:
        return None
    first, second = names[:2]
    numeric = [all(isinstance(value, (int, float)) for value in values[name]) for name in (first, second)]
    return (second, first) if numeric == [False, True] else (first, second)


#: Title of a panel → (x, y) → value of the cell.
_Panels = dict[str, dict[tuple[Value, Value], float]]


def _grid(table: Table, x: str, y: str, column: str) -> _Panels | None:
    known = dict.fromkeys(name for row in table.rows for name in row.coordinates)
    for axis in (x, y):
        if axis not in known:
            have = f"They have: {', '.join(known)}" if known else "No row has coordinates"
            raise LabError(
                f"heat map of {table.title!r}: no coordinate {axis!r}.{nearest(axis, known)} {have}"
            )
    if x == y:
        raise LabError(f"heat map of {table.title!r}: x and y are both {x!r}; they must differ")
    columns = [c.key for c in table.columns]
    if column not in columns:
        raise LabError(f"heat map of {table.title!r}: no column {column!r}." + nearest(column, columns))
    panels: _Panels = {}
    for row in table.rows:
        if x in row.coordinates and y in row.coordinates:
            panel = panels.setdefault(_panel(row, x, y), {})
            place = row.coordinates[x], row.coordinates[y]
            if place in panel:
                raise LabError(f"heat map of {table.title!r}: two rows at {x}={place[0]}, {y}={place[1]}")
            mean = table.cell(row.key, column).mean
            panel[place] = math.nan if mean is None else mean
    return panels if any(map(math.isfinite, _values(panels))) else None


def _panel(row: Row, x: str, y: str) -> str:
    others = {name: value for name, value in row.coordinates.items() if name not in (x, y)}
    return ", ".join(f"{name} {_text(value)}" for name, value in others.items())


def _values(panels: _Panels) -> list[float]:
    return [value for panel in panels.values() for value in panel.values()]


def _ordered(values: Sequence[Value]) -> list[Value]:
    distinct = list(dict.fromkeys(values))
    return sorted(distinct) if all(isinstance(v, (int, float)) for v in distinct) else distinct


def _figure(table: Table, x: str, y: str, column: str, panels: _Panels) -> Figure:
    places = list(itertools.chain.from_iterable(panels.values()))
    across, down = _ordered([p[0] for p in places]), _ordered([p[1] for p in places])
    finite = [value for value in _values(panels) if math.isfinite(value)]
    norm, colours = _scale(finite)
    height = 0.9 + len(panels) * (0.75 + 0.42 * len(down))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (title, panel) in zip(grid, panels.items(), strict=True):
        _draw(axes, panel, across, down, table.column(column), norm, colours)
        axes.set_title(one_line(title), loc="left")
        axes.set_ylabel(one_line(y))
    grid[-1].set_xlabel(one_line(x))
    bar = figure.colorbar(
        ScalarMappable(norm, colours), ax=list(grid), location="bottom", aspect=34, fraction=0.06
    )
    bar.outline.set_visible(False)
    bar.set_label(one_line(table.column(column).title))
    return figure


def _scale(finite: Sequence[float]) -> tuple[Normalize, Colormap]:
    low, high = min(finite), max(finite)
    if low == high:  # one colour, in the middle
        low, high = low - 0.5, high + 0.5
    return Normalize(low, high), matplotlib.colormaps[_MAP].resampled(_LEVELS)


def _draw(
    axes: Axes,
    panel: Mapping[tuple[Value, Value], float],
    across: Sequence[Value],
    down: Sequence[Value],
    column: Column,
    norm: Normalize,
    colours: Colormap,
) -> None:
    size = 9 if len(across) <= 7 else 7
    for (i, left), (j, top) in itertools.product(enumerate(across), enumerate(down)):
        value = panel.get((left, top), math.nan)
        if not math.isfinite(value):
            axes.text(i, j, DASH, ha="center", va="center", fontsize=size)
            continue
        colour = colours(norm(value))
        axes.add_patch(Rectangle((i - 0.48, j - 0.46), 0.96, 0.92, facecolor=colour, linewidth=0))
        # Black or white, whichever is read better on the cell's colour, in light and in dark.
        ink = "#000000" if _luminance(colour) > 0.18 else "#ffffff"
        text = number_text(value, column).removesuffix(column.suffix)
        axes.text(i, j, text, ha="center", va="center", fontsize=size, color=ink)
    axes.set_xticks(range(len(across)), [shortened(_text(value), 12) for value in across])
    axes.set_yticks(range(len(down)), [shortened(_text(value), 24) for value in down])
    axes.set_xlim(-0.5, len(across) - 0.5)
    axes.set_ylim(len(down) - 0.5, -0.5)
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
        spine.set_visible(False)


def _luminance(colour: Sequence[float]) -> float:
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _text(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _in_words(column: Column, x: str, y: str, panels: _Panels) -> str:
    parts = []
    for title, panel in panels.items():
        cells = "; ".join(
            f"{x} {_text(left)}, {y} {_text(top)}: "
            + (number_text(value, column) if math.isfinite(value) else "not measured")
            for (left, top), value in panel.items()
        )
        parts.append(f"{title}: {cells}" if title else cells)
    return ". ".join(parts) + "."
