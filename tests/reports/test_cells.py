"""Cells and captions from records."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from minilm_lab.errors import LabError
from minilm_lab.reports.cells import caption_of, parameters_cell, score_cell, speed_cell, with_paper
from minilm_lab.reports.records import Record
from minilm_lab.reports.table import Cell


def record(state: str = "COMPLETED", **result: Any) -> Record:
    return Record(Path("runs/finetune/sst2-1"), "finetune", "sst2", "1", state, result=result)


def finetune(seed: int, accuracy: float | None, **more: Any) -> Record:
    return record(
        config={"seed": seed, "scale": {"name": "demo", "steps": 5}},
        score={"name": "accuracy", "value": accuracy},
        scores={"accuracy": accuracy, "pearson": 70.0 + seed},
        **more,
    )


def test_scores_are_ordered_by_seed_whatever_the_order_of_records() -> None:
    runs = [finetune(2, 85.0), finetune(1, 84.0)]
    cell = score_cell(runs, "accuracy")
    assert (cell.values, cell.seeds) == ([84.0, 85.0], [1, 2])
    assert score_cell(runs) == score_cell(reversed(runs), "accuracy")
    assert score_cell(runs, "pearson").values == [71.0, 72.0]


@pytest.mark.parametrize(
    ("number", "paper"),
    [
        (None, (None, False, "")),
        ({"value": None, "source": "P1 Table 3"}, (None, False, "")),
        (91, (91.0, False, "")),
        ({"value": 91.0}, (91.0, False, "")),
        ({"value": 91.0, "source": "P1 Table 3", "unverified": True}, (91.0, True, "P1 Table 3")),
    ],
)
def test_the_papers_number_as_yaml_gives_it(number: Any, paper: tuple[Any, ...]) -> None:
    cell = with_paper(Cell([90.0, 91.0], [0, 1]), number, "rows.minilm.paper.sst2")
    assert (cell.paper, cell.paper_unverified, cell.paper_source) == paper
    assert (cell.values, cell.seeds) == ([90.0, 91.0], [0, 1])
    assert with_paper(Cell(), 91, "x", "P1 Table 2").paper_source == "P1 Table 2"


@pytest.mark.parametrize(
    ("number", "says"),
    [
        ("91.0", r"rows.a.paper.x='91.0' must be a number"),
        ({"source": "P1"}, r"rows.a.paper.x=None must be a number"),
        ({"value": math.nan}, "must be a number"),
        ({"value": True}, "must be a number"),
        ({"value": 91.0, "unverifed": True}, r"Did you mean 'unverified'\?"),
        ({"value": 91.0, "unverified": "yes"}, "unverified='yes' must be true or false"),
        ({"value": 91.0, "source": 3}, "source=3 must be text"),
    ],
)
def test_what_is_no_number_of_a_paper(number: Any, says: str) -> None:
    with pytest.raises(LabError, match=says):
        with_paper(Cell(), number, "rows.a.paper.x")


def test_runs_that_did_not_complete_add_nothing() -> None:
    assert score_cell([record("RUNNING"), record("FAILED"), finetune(1, 84.0)]).values == [84.0]
    assert score_cell([]) == Cell()
    assert parameters_cell([record("FAILED", parameters={"total": 5})]) == Cell()
    assert speed_cell(record("FAILED", ratio={"student": 2.0}), "student") == Cell()


def test_a_score_of_null_is_kept_as_nan() -> None:
    [value] = score_cell([finetune(1, None)], "accuracy").values
    assert math.isnan(value)


def test_a_missing_metric_is_an_error_that_lists_the_others() -> None:
    with pytest.raises(LabError, match=r"metric='f1'.*accuracy, pearson"):
        score_cell([finetune(1, 84.0)], "f1")


def test_two_runs_of_one_seed_are_an_error() -> None:
    with pytest.raises(LabError, match="twice"):
        score_cell([finetune(1, 84.0), finetune(1, 85.0)])


def test_parameters_in_millions_and_of_one_size() -> None:
    sizes = {"total": 22_713_216, "transformer": 10_600_000}
    runs = [record(parameters=sizes), record(parameters=sizes)]
    assert parameters_cell(runs).values == [22.713216]
    with pytest.raises(LabError, match="22,713,216, 30,000,000"):
        parameters_cell([*runs, record(parameters={"total": 30_000_000})])


def test_speed_up_of_a_row() -> None:
    assert speed_cell(record(ratio={"student": 2.1}), "student") == Cell([2.1])
    assert speed_cell(record(ratio={"student": 2.1}), "teacher") == speed_cell(None, "student") == Cell()


def test_caption_names_each_fact_once() -> None:
    hardware = {"cpu": "EPYC", "cores": 2, "gpu": None}
    runs = [
        finetune(1, 84.0, hardware=hardware, commit="abc", data_note="subset"),
        finetune(2, 85.0, hardware=hardware, commit="abc+changes", data_note="subset"),
        finetune(3, 85.0, hardware={"cpu": "Xeon", "cores": 1, "gpu": "H100"}, commit=None, data_note=None),
        record("RUNNING", data_note="not this"),
    ]
    caption = caption_of(runs, selection="last epoch", notes=["a note"])
    assert caption.scale == "demo"
    assert caption.data == ["subset"]
    assert caption.hardware == ["EPYC, 2 cores", "Xeon, 1 core, H100"]
    assert caption.commits == ["abc", "abc+changes"]
    assert (caption.selection, caption.notes) == ("last epoch", ["a note"])


def test_caption_of_odd_records_is_empty() -> None:
    caption = caption_of([record(config=3, hardware=[1], commit=5, data_note={})])
    assert (caption.scale, caption.data, caption.hardware, caption.commits) == ("", [], [], [])
