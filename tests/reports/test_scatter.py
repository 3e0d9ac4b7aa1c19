"""Score against cost: what is drawn, what is named."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm_lab.reports.drawing import Picture
from minilm_lab.reports.scatter import points, scatter, spread, survey
from minilm_lab.reports.table import Cell, Column, Row, Table


def texts(picture: Picture | None) -> str:
    assert picture is not None
    return " ".join(ET.fromstring(picture.svg()).itertext())


def grid(students: int) -> Table:
    """Students s0, s1, …: each scores and weighs more than the one before, but s1 is beaten by s0 in both."""
    rows = [Row("t", "Teacher", control=True, teacher="t"), Row("n", "Control", control=True, teacher="t")]
    cells = {
        "t": {"x": Cell([90.0]), "m": Cell([100.0])},
        "n": {"x": Cell([50.0]), "m": Cell([20.0])},
    }
    for i in range(students):
        rows.append(Row(f"s{i}", f"Student {i} end", teacher="t"))
        cells[f"s{i}"] = {"x": Cell([59.0 if i == 1 else 60.0 + i]), "m": Cell([10.0 + i])}
    columns = [Column("x", "X"), Column("kept", "Kept", kind="kept"), Column("m", "Size", kind="measure")]
    return Table("Sizes", rows, columns, cells)


def test_points_have_roles_and_leave_out_what_is_not_there(table: Table) -> None:
    found = points(table, "speed", "acc")
    assert found[["label", "role", "x"]].to_numpy().tolist() == [
        ["Teacher_6×384", "teacher", 1.0],
        ["Student | distilled", "student", 1.96],
    ]
    assert found["y"][1] == pytest.approx(81.0) and found["sd"][1] == pytest.approx(2**0.5)
    assert points(table, "params", "acc")["x"].tolist() == [22.713216]


def test_a_nan_is_no_point() -> None:
    cells = {"a": {"x": Cell([float("nan")]), "m": Cell([1.0])}}
    table = Table("t", [Row("a", "A")], [Column("x", "X"), Column("m", "M", kind="measure")], cells)
    assert points(table, "m", "x").empty


def test_every_row_of_a_small_table_is_named_and_told_in_words() -> None:
    picture = scatter(grid(3), "m")
    words = texts(picture)
    assert all(name in words for name in ("Teacher", "Control", "Student 0 end", "Student 2 end", "Size"))
    label = picture.words  # type: ignore[union-attr]
    assert "Teacher: X 90.0 at 100.0" in label and "Student 1 end: X 59.0 at 11.0" in label


def test_of_a_large_table_only_controls_and_unbeaten_students_are_named() -> None:
    words = texts(scatter(grid(14), "m"))
    assert (
        "Teacher" in words and "Control" in words and "Student 0 end" in words and "Student 13 end" in words
    )
    assert "Student 1 end" not in words
    # Where more of the measure is better, the last student beats all others.
    words = texts(scatter(grid(14), "m", more_is_better=True))
    assert "Student 13 end" in words and "Student 0 end" not in words and "Student 12 end" not in words


def test_nothing_to_trade_is_no_plot(table: Table) -> None:
    assert scatter(table, "params") is None and scatter(table, "no_such_column") is None
    same = {"a": {"x": Cell([1.0]), "m": Cell([5.0])}, "b": {"x": Cell([2.0]), "m": Cell([5.0])}}
    columns = [Column("x", "X"), Column("m", "M", kind="measure")]
    assert scatter(Table("t", [Row("a", "A"), Row("b", "B")], columns, same), "m") is None


def test_survey_shows_shares_of_the_teacher_of_all_tables() -> None:
    empty = Table("t", [], [])
    picture = survey([("First", grid(2)), ("Empty", empty), ("Second", grid(1)), ("Third", grid(1))], "m")
    assert picture is not None
    label = picture.words
    assert (
        f"First: Control {100 * 50 / 90:.1f} % at 20.0, Student 0 end {100 * 60 / 90:.1f} % at 10.0" in label
    )
    assert "Second: " in label and "Empty" not in label and "Teacher 100" not in label
    # Each table has a panel of its own that says which it is: colours would not tell a dozen apart.
    panels = [axes for axes in picture.figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == ["First", "Second", "Third"]
    assert survey([("Empty", empty)], "m") is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0.01, 0.05))
def test_names_keep_their_distance_and_order(places: list[float], gap: float) -> None:
    falling = sorted(places, reverse=True)
    moved = spread(falling, gap)
    assert all(a - b >= gap - 1e-9 for a, b in itertools.pairwise(moved))
    assert moved[-1] >= -1e-9 and moved[0] <= 1 + 1e-9  # 20 × 0.05 fit
    if all(a - b >= gap for a, b in itertools.pairwise(falling)):
        assert moved == pytest.approx(falling, abs=1e-9)
