"""Heat maps: what stands where, and what cannot be drawn."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import matplotlib
import pytest

from minilm_lab.errors import LabError
from minilm_lab.reports.heatmap import axes_of, heatmap, of_grid
from minilm_lab.reports.table import Cell, Column, Row, Table

COLUMNS = [Column("x", "Accuracy"), Column("average", "Average", kind="average")]


def heatmap_svg(table: Table, **words: str) -> str:
    picture = heatmap(table, **words)
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
    label = ET.fromstring(heatmap_svg(grid(layer=[1, 2], relations=["vv"]))).get("aria-label") or ""
    assert "layer 1, relations vv: 60.0; layer 2, relations vv: not measured" in label


def test_any_two_coordinates_and_any_column() -> None:
    table = grid(depth=[2, 3], heads=[12, 48])
    svg = heatmap_svg(table, x="heads", y="depth", column="x")
    where = places(svg)
    assert where["60.0"][0] < where["61.0"][0] and where["60.0"][1] < where["62.0"][1]


def test_further_coordinates_are_panels_on_one_scale() -> None:
    svg = heatmap_svg(grid(depth=[2, 3], layer=[5, 6], relations=["qq", "vv"]))
    shown = texts(svg)
    assert "depth 2" in shown and "depth 3" in shown
    assert {f"{60 + i}.0" for i in range(7)} <= set(shown)


def test_text_on_a_colour_can_be_read() -> None:
    """WCAG: black or white on every colour of the scale has a contrast of 4.5 at least."""
    from minilm_lab.reports import heatmap

    for i in range(101):
        light = heatmap._luminance(matplotlib.colormaps["cividis"](i / 100))
        assert (light + 0.05) / 0.05 >= 4.5 if light > 0.18 else 1.05 / (light + 0.05) >= 4.5
    assert heatmap._luminance((1.0, 1.0, 1.0)) == pytest.approx(1)
    assert heatmap._luminance((0.5, 0.5, 0.5)) == pytest.approx(0.2140, abs=1e-4)


def test_one_value_alone_is_drawn() -> None:
    cells = {"a": {"x": Cell([70.0])}}
    table = Table("t", [Row("a", "A", coordinates={"layer": 1, "relations": "vv"})], COLUMNS, cells)
    assert "70.0" in texts(heatmap_svg(table))


def test_nothing_measured() -> None:
    table = Table("t", [Row("a", "A", coordinates={"layer": 1, "relations": "vv"})], COLUMNS)
    assert heatmap(table) is None and of_grid(table) is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"x": "layr"}, "no coordinate 'layr'. Did you mean 'layer'"),
        ({"x": "relations"}, "both 'relations'"),
        ({"column": "averag"}, "no column 'averag'. Did you mean 'average'"),
    ],
)
def test_what_cannot_be_drawn(words: dict[str, str], says: str) -> None:
    with pytest.raises(LabError, match=says):
        heatmap(grid(layer=[1, 2], relations=["vv"]), **words)


def test_two_rows_in_one_place_or_no_coordinates() -> None:
    here: dict[str, str | float] = {"layer": 1, "relations": "vv"}
    table = Table("t", [Row("a", "A", coordinates=here), Row("b", "B", coordinates=here)], COLUMNS)
    with pytest.raises(LabError, match="two rows at layer=1, relations=vv"):
        heatmap(table)
    with pytest.raises(LabError, match="No row has coordinates"):
        heatmap(Table("t", [Row("a", "A")], COLUMNS))


def test_the_grid_of_a_table_is_drawn_where_it_has_one() -> None:
    picture = of_grid(grid(layer=[1, 2], relations=["vv", "qq"]))
    assert picture is not None and picture.title == "Average by layer and relations: Grid"
    rows = [Row(str(i), str(i), coordinates={"layer": i // 4, "depth": i % 2}) for i in range(8)]
    shared = Table("t", rows, COLUMNS, {str(i): {"x": Cell([50.0])} for i in range(8)})
    assert of_grid(shared) is None, "two rows in one place"


def test_axes_are_the_two_widest_coordinates_numbers_across() -> None:
    assert axes_of(grid(relations=["a", "b", "c"], layer=[1, 2], depth=[3])) == ("layer", "relations")
    assert axes_of(grid(depth=[2, 3], layer=[1, 2, 3])) == ("layer", "depth")
    assert axes_of(grid(layer=[1, 2], depth=[3])) is None
