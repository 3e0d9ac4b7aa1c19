"""The arithmetic of tables, against numpy, and their JSON."""

from __future__ import annotations

import json
import math
import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm_lab.errors import LabError
from minilm_lab.reports.table import Cell, Column, Row, Table

SCORES = st.floats(-100, 100, allow_nan=False)


def summed(values: list[float]) -> Any:
    """The line of `summary` for a cell with these values."""
    return Table("t", [Row("r", "R")], [Column("x", "X")], {"r": {"x": Cell(values)}}).cell("r", "x")


@settings(max_examples=30, deadline=None)  # the first call imports pandas
@given(st.lists(SCORES, min_size=2, max_size=8))
def test_mean_and_sample_deviation_are_those_of_numpy(values: list[float]) -> None:
    cell = summed(values)
    assert cell.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert cell.sd == pytest.approx(np.std(values, ddof=1), abs=1e-7)


def test_one_value_has_no_deviation_and_none_has_no_mean() -> None:
    assert summed([3.0]).mean == 3.0 and math.isnan(summed([3.0]).sd)
    assert math.isnan(summed([]).mean) and math.isnan(summed([]).sd) and summed([]).n == 0


def test_nan_is_not_left_out_of_the_mean() -> None:
    for odd in (math.nan, math.inf):
        cell = summed([80.0, odd])
        assert math.isnan(cell.mean) and math.isnan(cell.sd) and cell.n == 2


@settings(max_examples=30, deadline=None)  # the first call imports pandas
@given(st.lists(st.tuples(SCORES, SCORES, SCORES), min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_average_over_tasks_has_one_value_a_seed(
    rows: list[tuple[float, float, float]], random: object
) -> None:
    """Whatever order each task's seeds come in, the average pairs them by seed."""
    seeds = list(range(len(rows)))
    cells = {}
    for task in range(3):
        order = list(seeds)
        random.shuffle(order)  # type: ignore[attr-defined]
        cells[str(task)] = Cell([rows[seed][task] for seed in order], order)
    columns = [Column(str(task), str(task)) for task in range(3)] + [Column("avg", "Avg", kind="average")]
    average = Table("t", [Row("r", "R")], columns, {"r": cells}).cell("r", "avg")
    per_seed = np.mean(np.array(rows), axis=1)
    assert average.values == pytest.approx(per_seed, abs=1e-9)
    assert average.sd == pytest.approx(np.std(per_seed, ddof=1), abs=1e-7)


def test_average_of_a_published_row() -> None:
    """MiniLM, table 2: the average column is the mean of the eight tasks, rounded."""
    scores = [76.4, 84.0, 92.0, 91.0, 49.2, 71.5, 88.4, 91.0]
    columns = [Column(str(i), str(i)) for i in range(8)] + [Column("avg", "Avg", kind="average")]
    table = Table("t", [Row("r", "R")], columns, {"r": {str(i): Cell([s]) for i, s in enumerate(scores)}})
    assert round(table.cell("r", "avg").mean, 1) == 80.4


def test_average_and_share_only_when_all_tasks_are_there(table: Table) -> None:
    assert table.cell("none", "avg").n == 0 and table.cell("none", "kept").n == 0


def test_average_of_unlike_seeds_is_the_mean_of_means_without_deviation(table: Table) -> None:
    average = table.cell("student", "avg")
    assert average.values == [statistics.fmean([81.0, 77.5])]
    assert math.isnan(average.sd)


def test_share_of_the_teacher(table: Table) -> None:
    assert table.cell("teacher", "kept").values == pytest.approx([100])
    share = 100 * ((81.0 + 77.5) / 2) / ((85.6 + 80.5) / 2)
    assert table.cell("student", "kept").values == pytest.approx([share])


def test_share_without_teacher_or_with_a_teacher_at_zero() -> None:
    rows = [Row("a", "A"), Row("z", "Z", teacher="z")]
    columns = [Column("x", "X"), Column("kept", "Kept", kind="kept")]
    table = Table("t", rows, columns, {"a": {"x": Cell([5.0])}, "z": {"x": Cell([0.0])}})
    assert table.cell("a", "kept").n == 0 and table.cell("z", "kept").n == 0


def test_a_column_may_stay_out_of_the_average() -> None:
    columns = [Column("f1", "F1"), Column("em", "EM", averaged=False), Column("avg", "Avg", kind="average")]
    table = Table("t", [Row("r", "R")], columns, {"r": {"f1": Cell([80.0])}})
    assert table.cell("r", "avg").mean == 80.0


def test_the_papers_average_stands_beside_ours(table: Table) -> None:
    cell = table.cell("teacher", "avg")
    assert (cell.paper, cell.n) == (81.5, 2)


def test_every_value_is_in_the_frame_with_its_seed(table: Table) -> None:
    frame = table.frame
    assert list(frame) == ["row", "column", "seed", "value"]
    scores = frame[(frame["row"] == "teacher") & (frame["column"] == "acc")]
    assert list(zip(scores["seed"], scores["value"], strict=True)) == [(1, 85.5), (2, 85.7)]
    averages = frame[(frame["row"] == "teacher") & (frame["column"] == "avg")]
    assert dict(zip(averages["seed"], averages["value"], strict=True)) == pytest.approx({1: 82.75, 2: 83.35})
    assert frame[frame["column"] == "params"]["seed"].isna().all()


def test_headline_is_the_average_or_the_first_score(table: Table) -> None:
    cells = {"r": {"x": Cell([1.0])}}
    assert table.headline is not None and table.headline.key == "avg"
    first = Table("t", [Row("r", "R")], [Column("x", "X"), Column("y", "Y")], cells).headline
    assert first is not None and first.key == "x"
    assert Table("t", [Row("r", "R")], [Column("x", "X")]).headline is None


def test_seed_counts(table: Table) -> None:
    assert table.seed_counts() == (1, 2)
    assert Table("t", [], []).seed_counts() == (0, 0)


def test_round_trip(table: Table) -> None:
    text = table.to_json()
    assert Table.from_json(text) == table
    assert Table.from_json(text).to_json() == text


def test_round_trip_keeps_nan_as_strict_json() -> None:
    table = Table("t", [Row("r", "R")], [Column("x", "X")], {"r": {"x": Cell([1.0, math.nan], [0, 1])}})
    text = table.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    cell = Table.from_json(text).cell("r", "x")
    assert cell.values[0] == 1.0 and math.isnan(cell.values[1])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "not a table"),
        ('{"title": "t"}', "not a table"),
        ('{"title": "t", "rows": [], "columns": [], "cell": {}}', "'cell'"),
        ('{"title": "t", "rows": [{"key": "a"}], "columns": []}', "not a table"),
        ('{"title": "t", "rows": [{"key": "a", "title": "A", "contrl": true}], "columns": []}', "'contrl'"),
        (
            '{"title": "t", "rows": [{"key": "a", "title": "A", "coordinates": {"layer": [4]}}], "columns": []}',
            "coordinate layer",
        ),
        (
            '{"title": "t", "rows": [{"key": "a", "title": "A"}], "columns": [{"key": "x", "title": "X"}],'
            ' "cells": {"a": {"x": {"paper": "eighty"}}}}',
            "eighty",
        ),
    ],
)
def test_json_that_is_no_table(text: str, says: str) -> None:
    with pytest.raises(LabError, match=says.replace("?", r"\?")):
        Table.from_json(text)


def test_impossible_tables() -> None:
    row, column = Row("r", "R"), Column("x", "X")
    with pytest.raises(LabError, match="twice"):
        Table("t", [row, row], [column])
    with pytest.raises(LabError, match="teacher='q' is no row"):
        Table("t", [Row("r", "R", teacher="q")], [column])
    with pytest.raises(LabError, match="Did you mean 'student'"):
        Table("t", [Row("student", "S")], [column], {"studnet": {}})
    with pytest.raises(LabError, match="no such column"):
        Table("t", [row], [column], {"r": {"y": Cell()}})
    with pytest.raises(LabError, match="worked out"):
        Table("t", [row], [Column("x", "X", kind="average")], {"r": {"x": Cell([1.0])}})
    with pytest.raises(LabError, match="Did you mean 'score'"):
        Column("x", "X", kind="scores")
    with pytest.raises(LabError, match="one seed for each"):
        Cell([1.0, 2.0], [1])
    with pytest.raises(LabError, match="twice"):
        Cell([1.0, 2.0], [1, 1])
