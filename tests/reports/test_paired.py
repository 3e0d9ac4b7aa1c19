"""Differences paired by seed: what a table claims, and what it does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm_lab.reports.paired import interval
from minilm_lab.reports.renderers import to_latex, to_markdown
from minilm_lab.reports.table import Cell, Column, Row, Table

NOISE = [4.0, -3.0, 0.5, -2.0, 1.0]
"""What a seed does to every row alike: far more than the rows differ."""


def made(**scores: list[float]) -> Table:
    """A teacher, a control, students; values of seeds 0, 1, …"""
    rows = [Row(key, key.title(), control=key in ("teacher", "control"), teacher="teacher") for key in scores]
    cells = {
        key: {
            "x": Cell(values, list(range(len(values)))),
            "parameters": Cell([1.0 if key == "teacher" else 0.5]),
        }
        for key, values in scores.items()
    }
    columns = [Column("x", "Score"), Column("parameters", "Size", kind="measure")]
    return Table("t", rows, columns, cells)


def five(mean: float, *wobble: float) -> list[float]:
    wobble = wobble or (0.0, 0.1, -0.1, 0.05, -0.05)
    return [mean + noise + off for noise, off in zip(NOISE, wobble, strict=True)]


TABLE = made(
    teacher=five(90),
    control=five(60),
    first=five(65),
    second=five(65.02, 1, -1, 0.5, -0.7, 0.3),
    third=five(62),
)


def test_rows_stand_beside_their_control_and_the_row_above() -> None:
    assert [(row, other) for row, other, _ in TABLE.comparisons] == [
        ("first", "control"),
        ("second", "control"),
        ("second", "first"),
        ("third", "control"),
        ("third", "second"),
    ]


def test_a_difference_smaller_than_the_seeds_is_told_where_seeds_are_paired() -> None:
    assert TABLE.cell("first", "x").sd > 2, "unpaired, a difference of 2 would drown"
    found = TABLE.differences.set_index(["row", "other"])
    third = found.loc[("third", "control")]
    assert third["mean"] == pytest.approx(2.0, abs=0.01) and third["differs"] and third["low"] > 1.5
    assert not found.loc[("second", "first")]["differs"]
    marks = {row.key: TABLE.cell(row.key, "x").marks for row in TABLE.rows}
    assert marks == {"teacher": "", "control": "", "first": "ᶜ", "second": "ᶜ", "third": "ᶜᵃ"}


def test_the_table_says_what_can_be_told_and_what_not() -> None:
    text = to_markdown(TABLE)
    assert "62.1ᶜᵃ ± 2.7" in text and "ᶜ = differs from the control, ᵃ = differs from the row above" in text
    assert "Score: above the control: First by 5.0 (5.0 to 5.0), Second by 5.0" in text
    assert "below the row above: Third by 3.0" in text and "not told apart from the row above: Second" in text
    assert "62.1$^c$$^a$" in to_latex(TABLE)


def test_a_share_has_the_interval_of_resampled_seeds() -> None:
    """By a plain loop over resampled seeds, with the same expanded percentiles."""
    ours, theirs = five(80), five(90, 1, -1, 0.5, 0, -0.5)
    low, high = interval(ours, theirs)
    draw = np.random.default_rng(7)
    shares = []
    for _ in range(20_000):
        seeds = draw.integers(0, 5, 5)
        shares.append(100 * np.mean([ours[s] for s in seeds]) / np.mean([theirs[s] for s in seeds]))
    # n = 5: t is 2.776 at 97.5 %, times sqrt(5 / 4) = 3.104 deviations of a normal distribution.
    assert [low, high] == pytest.approx(np.percentile(shares, [0.0955, 99.9045]), abs=0.15)
    rows = [Row("t", "Teacher", control=True, teacher="t"), Row("s", "Student", teacher="t")]
    cells = {"t": {"x": Cell(theirs, list(range(5)))}, "s": {"x": Cell(ours, list(range(5)))}}
    columns = [Column("x", "X"), Column("kept", "Kept", kind="kept", suffix=" %")]
    table = Table("t", rows, columns, cells)
    share = 100 * np.mean(ours) / np.mean(theirs)
    assert f"over paired seeds: Student {share:.1f} % ({low:.1f} to {high:.1f})." in to_markdown(table)
    fewer = {row: {"x": Cell(cell["x"].values[:2], [0, 1])} for row, cell in cells.items()}
    assert "over paired seeds:" not in to_markdown(Table("t", rows, columns, fewer))


@pytest.mark.parametrize(
    "scores",
    [
        {"control": [60.0, 61.0], "first": [70.0, 71.0]},
        {"control": [60.0, 61.0, 62.0], "first": [70.0, 71.0]},
        {"control": [60.0, 61.0, float("nan")], "first": [70.0, 71.0, 72.0]},
    ],
)
def test_fewer_than_three_common_seeds_claim_nothing(scores: dict[str, list[float]]) -> None:
    table = made(teacher=[90.0, 90.0], **scores)
    assert table.differences.empty and "paired" not in to_markdown(table)
    assert not any(table.summary["marks"])


def test_values_without_seeds_are_paired_with_none_and_controls_of_another_size_are_none() -> None:
    rows = [Row("control", "C", control=True), Row("a", "A")]
    cells = {row.key: {"x": Cell([1.0, 2.0, 3.0])} for row in rows}
    assert Table("t", rows, [Column("x", "X")], cells).differences.empty
    other = {"control": {"parameters": Cell([1.0])}, "a": {"parameters": Cell([2.0])}}
    assert Table("t", rows, [Column("parameters", "P", kind="measure")], other).comparisons == []


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=3, max_size=9))
def test_the_interval_holds_the_mean_and_lies_within_the_values(values: list[float]) -> None:
    low, high = interval(values)
    slack = 1e-9
    assert min(values) - slack <= low <= np.mean(values) + slack
    assert np.mean(values) - slack <= high <= max(values) + slack
    assert interval(values) == (low, high), "the same each time"


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Of 300 samples of ten normal values, the interval leaves the true mean out in about 5 %."""
    samples = np.random.default_rng(1).normal(size=(300, 10))
    out = sum(not low <= 0 <= high for low, high in (interval(list(sample)) for sample in samples))
    assert 4 <= out <= 30
