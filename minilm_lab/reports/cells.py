"""Cells and captions of a table, read from the records of runs. Runs that did not complete add nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from minilm_lab.errors import LabError, nearest
from minilm_lab.reports.records import Record
from minilm_lab.reports.table import Caption, Cell

#: What a paper's number may say in a table's YAML.
_PAPER = ("value", "source", "unverified")


def score_cell(
    records: Iterable[Record],
    metric: str | None = None,
    *,
    paper: float | None = None,
    paper_unverified: bool = False,
    paper_source: str = "",
) -> Cell:
    """Return the scores (0 to 100) of fine-tuning runs that differ in their seed alone.

    Args:
        records: runs of one model on one task; those that did not complete are left out.
        metric: a key of the records' `scores`; their headline score if None.
        paper: the paper's number.
        paper_unverified: whether that number was not checked in the paper.
        paper_source: where that number stands, such as `P1 Table 3`.

    Raises:
        LabError: two runs have one seed, or a completed run lacks the metric.
    """
    found: list[tuple[int | None, float]] = []
    for record in records:
        if not record.completed:
            continue
        value = _metric(record, metric)
        if value is None:
            raise LabError(_no_metric(record, metric))
        found.append((record.seed, value))
    found.sort(key=lambda item: (item[0] is None, item[0] or 0))
    seeds = [seed for seed, _ in found if seed is not None]
    return Cell(
        values=[value for _, value in found],
        seeds=seeds if len(seeds) == len(found) else [],
        paper=paper,
        paper_unverified=paper_unverified,
        paper_source=paper_source,
    )


def with_paper(cell: Cell, number: Any, where: str) -> Cell:
    """Return `cell` with the paper's number beside its values.

    Args:
        cell: of any column; an empty one where the column is worked out (average, kept).
        number: as a table's YAML has it: a number, `{value: 91.0, source: "P1 Table 3", unverified: true}`
            (source and unverified may be left out), or None, or value None, for no number.
        where: how errors name the number, such as ``"rows.minilm.paper.sst2"``.

    Raises:
        LabError: `number` is none of these.
    """
    if number is None or (isinstance(number, Mapping) and "value" in number and number["value"] is None):
        return cell
    known: Mapping[str, Any] = number if isinstance(number, Mapping) else {"value": number}
    for key in known:
        if key not in _PAPER:
            raise LabError(
                f"{where}.{key}: no such setting.{nearest(str(key), _PAPER)} It has: {', '.join(_PAPER)}"
            )
    value, source, unverified = known.get("value"), known.get("source", ""), known.get("unverified", False)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise LabError(f"{where}={value!r} must be a number, or null where the paper gives none")
    if not isinstance(source, str):
        raise LabError(f"{where}.source={source!r} must be text, such as 'P1 Table 3'")
    if not isinstance(unverified, bool):
        raise LabError(f"{where}.unverified={unverified!r} must be true or false")
    return replace(cell, paper=float(value), paper_unverified=unverified, paper_source=source)


def parameters_cell(records: Iterable[Record], part: str = "total") -> Cell:
    """Return the number of parameters in millions: `part` is `total`, `transformer` or `embeddings`.

    Raises:
        LabError: the runs have models of different sizes, so they are not of one row.
    """
    counts = {
        value
        for record in records
        if record.completed and (value := record.number(f"parameters.{part}")) is not None
    }
    if len(counts) > 1:
        sizes = ", ".join(f"{count:,.0f}" for count in sorted(counts))
        raise LabError(f"runs of one row have models of different sizes ({part} parameters: {sizes})")
    return Cell(values=[count / 1e6 for count in counts])


def speed_cell(records: Iterable[Record], row: str) -> Cell:
    """Return the speed-up of `row` (teacher's seconds / its own) from the newest completed speed run."""
    ratios: list[tuple[str, float]] = []
    for record in records:
        table = record.get("ratio")
        if record.completed and isinstance(table, dict) and isinstance(table.get(row), (int, float)):
            ratios.append((str(record.updated or ""), float(table[row])))
    return Cell(values=[max(ratios)[1]]) if ratios else Cell()


def caption_of(records: Iterable[Record], *, selection: str = "", notes: Sequence[str] = ()) -> Caption:
    """Return the caption of a table made of `records`: what scale, data, hardware and commits they name."""
    completed = [record for record in records if record.completed]
    return Caption(
        scale=", ".join(_distinct(_scale(record.get("config.scale")) for record in completed)),
        data=_distinct(record.get("data_note") for record in completed),
        hardware=_distinct(_hardware(record.get("hardware")) for record in completed),
        commits=_distinct(record.get("commit") for record in completed),
        selection=selection,
        notes=list(notes),
    )


def _metric(record: Record, metric: str | None) -> float | None:
    if metric is None:
        return record.number("score.value")
    scores = record.get("scores")
    if not isinstance(scores, dict) or metric not in scores:
        return None
    # A score that is not a number (null for NaN in strict JSON) is kept as NaN: it was measured, and failed.
    value = scores[metric]
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def _no_metric(record: Record, metric: str | None) -> str:
    scores = record.get("scores")
    known = ", ".join(map(str, scores)) if isinstance(scores, dict) and scores else "no scores"
    wanted = "a headline score" if metric is None else f"metric={metric!r}"
    return f"{wanted} is not in the result of {record.folder.name}; it has {known}"


def _distinct(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(value for value in values if isinstance(value, str) and value))


def _scale(scale: Any) -> str:
    if isinstance(scale, dict):
        scale = scale.get("name")
    return scale if isinstance(scale, str) else ""


def _hardware(hardware: Any) -> str:
    if not isinstance(hardware, dict):
        return hardware if isinstance(hardware, str) else ""
    cores = hardware.get("cores")
    parts = [
        hardware.get("cpu"),
        None if cores is None else f"{cores} core" + ("" if cores == 1 else "s"),
        hardware.get("gpu"),
    ]
    return ", ".join(str(part) for part in parts if part)
