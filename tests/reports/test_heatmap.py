"""Heat maps: what stands where, and what cannot be drawn."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import matplotlib
import pytest

from minilm_lab.reports.heatmap import axes_of, heatmap
from minilm_lab.reports.table import Cell, Column, Row, Table

COLUMNS = [Column("x", "Accuracy"), Column("average", "Average", kind="average")]


def heatmap_svg(table: Table) -> str:
    picture = heatmap(table)
    assert picture is not None
    return picture.svg()


def grid(**axes: list[str | float]) -> Table:
    """A row for each place of the grid, scoring 60, 61, …; a control lies in none. The last one is not measured."""
    rows = [Row("teacher", "Teacher", control=True)]
    cells = {"teacher": {"x": Cell([99.0])}}
    for number, values in enumerate(itertools.product(*axes.values())):
        rows.append(Row(str(number), str(number), coordinates=dict(zip(axes, values, strict=True))))
        cells[str(number)] = {"x": Cell([60.0 + number])}
    cells[str(number)] = {}
    return Table("Grid", rows, COLUMNS, cells)


def texts(svg: str) -> list[str]:
    return [text for text in (t.strip() for t in ET.fromstring(svg).itertext()) if text]


def places(svg: str) -> dict[str, tuple[float, float]]:
    """Where each text stands first (the scale of colours, which comes last, has numbers too): x, y of the SVG."""
    found = re.findall(r'<text [^>]*?x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>', svg)
    return {text.strip(): (float(x), float(y)) for x, y, text in reversed(found)}


def test_values_stand_at_their_coordinates() -> None:
    svg = heatmap_svg(grid(layer=[6, 4, 5], relations=["vv", "qq.kk.vv"]))
    where = places(svg)
    # Layers rise from left to right whatever the order of rows; relations keep the order of rows.
    assert where["62.0"][0] < where["64.0"][0] < where["60.0"][0]
    assert where["62.0"][1] == where["64.0"][1] == where["60.0"][1] < where["61.0"][1]
    assert where["63.0"][0] == where["62.0"][0] and where["61.0"][0] == where["60.0"][0]
    assert "99.0" not in where, "the control has no coordinates"
    shown = texts(svg)
    assert "–" in shown and {"layer", "relations", "Average", "4", "5", "6", "vv", "qq.kk.vv"} <= set(shown)


def test_the_words_say_every_value() -> None:
    picture = heatmap(grid(layer=[1, 2], relations=["vv", "qq"]))
    assert picture is not None and picture.title == "Average by layer and relations: Grid"
    assert "layer 1, relations vv: 60.0; layer 2, relations vv: 62.0" in picture.words
    assert picture.words.endswith("layer 2, relations qq: not measured.")


def test_further_coordinates_are_panels_on_one_scale() -> None:
    svg = heatmap_svg(grid(depth=[2, 3], layer=[5, 6, 7], relations=["qq", "vv", "kk"]))
    shown = texts(svg)
    assert "depth 2" in shown and "depth 3" in shown
    assert {f"{60 + i}.0" for i in range(17)} <= set(shown)


def test_text_on_a_colour_can_be_read() -> None:
    """WCAG: black or white on every colour of the scale has a contrast of 4.5 at least."""
    from minilm_lab.reports import heatmap

    for i in range(101):
        light = heatmap._luminance(matplotlib.colormaps["cividis"](i / 100))
        assert (light + 0.05) / 0.05 >= 4.5 if light > 0.18 else 1.05 / (light + 0.05) >= 4.5
    assert heatmap._luminance((1.0, 1.0, 1.0)) == pytest.approx(1)
    assert heatmap._luminance((0.5, 0.5, 0.5)) == pytest.approx(0.2140, abs=1e-4)


def test_equal_values_are_drawn_and_missing_ones_are_no_heat_map() -> None:
    table = grid(layer=[1, 2], relations=["vv", "qq"])
    same = {key: {"x": Cell([70.0])} for key in table.cells}
    assert texts(heatmap_svg(Table("t", table.rows, COLUMNS, same))).count("70.0") >= 4
    assert heatmap(Table("t", table.rows, COLUMNS)) is None


def test_rows_in_one_place_or_without_coordinates_are_no_grid() -> None:
    rows = [Row(str(i), str(i), coordinates={"layer": i // 4, "depth": i % 2}) for i in range(8)]
    cells = {row.key: {"x": Cell([50.0])} for row in rows}
    assert heatmap(Table("t", rows, COLUMNS, cells)) is None
    assert heatmap(Table("t", [Row("0", "A")], COLUMNS, {"0": {"x": Cell([1.0])}})) is None


def test_axes_are_the_two_widest_coordinates_numbers_across() -> None:
    assert axes_of(grid(relations=["a", "b", "c"], layer=[1, 2], depth=[3])) == ("layer", "relations")
    assert axes_of(grid(depth=[2, 3], layer=[1, 2, 3])) == ("layer", "depth")
    assert axes_of(grid(layer=[1, 2], depth=[3])) is None
