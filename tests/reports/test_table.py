"""The arithmetic of tables, against numpy, and their JSON."""

from __future__ import annotations

import json
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm_lab.errors import LabError
from minilm_lab.reports.table import Cell, Column, Row, Table

SCORES = st.floats(-100, 100, allow_nan=False)


@given(st.lists(SCORES, min_size=2, max_size=8))
def test_mean_and_sample_deviation_are_those_of_numpy(values: list[float]) -> None:
    cell = Cell(values)
    assert cell.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert cell.sd == pytest.approx(np.std(values, ddof=1), abs=1e-7)


def test_one_value_has_no_deviation_and_none_has_no_mean() -> None:
    assert (Cell([3.0]).mean, Cell([3.0]).sd) == (3.0, None)
    assert (Cell().mean, Cell().sd, Cell().n) == (None, None, 0)


def test_nan_is_not_left_out_of_the_mean() -> None:
    cell = Cell([80.0, math.nan])
    assert cell.mean is not None and math.isnan(cell.mean)
    assert cell.sd is not None and math.isnan(cell.sd)


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
    mean = table.cell("r", "avg").mean
    assert mean is not None and round(mean, 1) == 80.4


def test_average_and_share_only_when_all_tasks_are_there(table: Table) -> None:
    assert table.cell("none", "avg") == Cell()
    assert table.kept("none") is None
    assert table.cell("none", "kept") == Cell()


def test_average_of_unlike_seeds_is_the_mean_of_means_without_deviation(table: Table) -> None:
    average = table.cell("student", "avg")
    assert average.values == [statistics.fmean([81.0, 77.5])]
    assert average.sd is None


def test_share_of_the_teacher(table: Table) -> None:
    assert table.kept("teacher") == pytest.approx(100)
    assert table.kept("student") == pytest.approx(100 * ((81.0 + 77.5) / 2) / ((85.6 + 80.5) / 2))


def test_share_without_teacher_or_with_a_teacher_at_zero() -> None:
    rows = [Row("a", "A"), Row("z", "Z", teacher="z")]
    table = Table("t", rows, [Column("x", "X")], {"a": {"x": Cell([5.0])}, "z": {"x": Cell([0.0])}})
    assert table.kept("a") is None
    assert table.kept("z") is None


def test_a_column_may_stay_out_of_the_average() -> None:
    columns = [Column("f1", "F1"), Column("em", "EM", averaged=False), Column("avg", "Avg", kind="average")]
    table = Table("t", [Row("r", "R")], columns, {"r": {"f1": Cell([80.0])}})
    assert table.cell("r", "avg").mean == 80.0


def test_the_papers_average_stands_beside_ours(table: Table) -> None:
    cell = table.cell("teacher", "avg")
    assert (cell.paper, cell.n) == (81.5, 2)


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
        ("[]", "must be a JSON object"),
        ('{"title": "t"}', "not a table"),
        ('{"title": "t", "rows": [], "columns": [], "cell": {}}', "Did you mean 'cells'?"),
        ('{"title": "t", "rows": [{"key": "a"}], "columns": []}', "not a table"),
        ('{"title": "t", "rows": [{"key": "a", "title": "A", "contrl": true}], "columns": []}', "'control'"),
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
