"""Cells and captions of a table, read from the records of runs. Runs that did not complete add nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from minilm_lab.errors import LabError, nearest
from minilm_lab.reports.records import Record
from minilm_lab.reports.table import Caption, Cell

_PAPER = ("value", "source", "unverified")
"""What a paper's number may say in a table's YAML."""


def score_cell(records: Iterable[Record], metric: str | None = None) -> Cell:
    """Return the scores (0 to 100) of fine-tuning runs that differ in their seed alone.

    Args:
        records: runs of one model on one task; those that did not complete are left out.
        metric: a key of the records' `scores`; their headline score if None.

    Raises:
        LabError: two runs have one seed, or a completed run lacks the metric.
    """
    scores = [(record.seed, _metric(record, metric)) for record in records if record.completed]
    scores.sort(key=lambda item: (item[0] is None, item[0] or 0))
    seeds = [seed for seed, _ in scores if seed is not None]
    return Cell([value for _, value in scores], seeds if len(seeds) == len(scores) else [])


def with_paper(cell: Cell, number: Any, where: str, source: str = "") -> Cell:
    """Return `cell` with the paper's number beside its values.

    Args:
        cell: of any column; an empty one where the column is worked out (average, kept).
        number: as a table's YAML has it: a number, `{value: 91.0, source: "P1 Table 3", unverified: true}`
            (source and unverified may be left out), or None, or value None, for no number.
        where: how errors name the number, such as ``"rows.minilm.paper.sst2"``.
        source: of a number that does not say its own.

    Raises:
        LabError: `number` is none of these.
    """
    known: Mapping[str, Any] = number if isinstance(number, Mapping) else {"value": number}
    if "value" in known and known["value"] is None:
        return cell
    for key in known:
        if key not in _PAPER:
            raise LabError(
                f"{where}.{key}: no such setting.{nearest(str(key), _PAPER)} It has: {', '.join(_PAPER)}"
            )
    value, source, unverified = (
        known.get("value"),
        known.get("source", source),
        known.get("unverified", False),
    )
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise LabError(f"{where}={value!r} must be a number, or null where the paper gives none")
    if not isinstance(source, str):
        raise LabError(f"{where}.source={source!r} must be text, such as 'P1 Table 3'")
    if not isinstance(unverified, bool):
        raise LabError(f"{where}.unverified={unverified!r} must be true or false")
    return replace(cell, paper=float(value), paper_unverified=unverified, paper_source=source)


def parameters_cell(records: Iterable[Record]) -> Cell:
    """Return the number of parameters in millions.

    Raises:
        LabError: the runs have models of different sizes, so they are not of one row.
    """
    counts = [record.number("parameters.total") for record in records if record.completed]
    sizes = sorted({count for count in counts if count is not None})
    if len(sizes) > 1:
        shown = ", ".join(f"{size:,.0f}" for size in sizes)
        raise LabError(f"runs of one row have models of different sizes (total parameters: {shown})")
    return Cell([size / 1e6 for size in sizes])


def speed_cell(record: Record | None, row: str) -> Cell:
    """Return the speed-up of `row` (teacher's seconds / its own) from the record of a speed run, if it has one."""
    ratios = record.get("ratio") if record is not None and record.completed else None
    ratio = ratios.get(row) if isinstance(ratios, dict) else None
    return Cell([float(ratio)]) if isinstance(ratio, (int, float)) else Cell()


def caption_of(records: Iterable[Record], *, selection: str = "", notes: Sequence[str] = ()) -> Caption:
    """Return the caption of a table made of `records`: what scale, data, hardware and commits they name."""
    completed = [record for record in records if record.completed]
    scales = [record.get("config.scale.name") or record.get("config.scale") for record in completed]
    return Caption(
        scale=", ".join(_distinct(scales)),
        data=_distinct(record.get("data_note") for record in completed),
        hardware=_distinct(_hardware(record.get("hardware")) for record in completed),
        commits=_distinct(record.get("commit") for record in completed),
        selection=selection,
        notes=list(notes),
    )


def _metric(record: Record, metric: str | None) -> float:
    """A score that is not a number (null for NaN in strict JSON) is NaN: it was measured, and failed."""
    scores = record.get("scores")
    scores = scores if isinstance(scores, dict) else {}
    value = record.number("score.value") if metric is None else scores.get(metric)
    if value is None and (metric is None or metric not in scores):
        known = ", ".join(map(str, scores)) or "no scores"
        wanted = "a headline score" if metric is None else f"metric={metric!r}"
        raise LabError(f"{wanted} is not in the result of {record.folder.name}; it has {known}")
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def _distinct(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(value for value in values if isinstance(value, str) and value))


def _hardware(hardware: Any) -> str:
    if not isinstance(hardware, dict):
        return hardware if isinstance(hardware, str) else ""
    cores = hardware.get("cores")
    counted = None if cores is None else f"{cores} core" + ("" if cores == 1 else "s")
    return ", ".join(str(part) for part in (hardware.get("cpu"), counted, hardware.get("gpu")) if part)
