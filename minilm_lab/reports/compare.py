"""Runs side by side: the settings in which they differ, their scores, and the loss at equal steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import rich.table
from rich import box
from rich.console import Group
from rich.text import Text

from minilm_lab.errors import LabError
from minilm_lab.reports.curves import Points, curve_of, thin
from minilm_lab.reports.records import Record, as_number
from minilm_lab.reports.select import settings
from minilm_lab.reports.text import DASH, one_line

#: Lines of losses that are shown.
_LOSSES = 8
#: Facts of a record that are numbers: title, path, factor, digits.
_NUMBERS = (
    ("held-out loss", "held_out_loss.last", 1.0, 4),
    ("loss", "loss", 1.0, 4),
    ("held-out perplexity", "held_out_perplexity.last", 1.0, 1),
    ("parameters (M)", "parameters.total", 1e-6, 2),
    ("tokens seen (M)", "tokens_seen", 1e-6, 2),
    ("wall clock (s)", "wall_clock_s", 1.0, 1),
)


@dataclass(frozen=True)
class Line:
    """One line of the comparison: a value a run, in the order of the runs."""

    title: str
    values: list[Any]
    digits: int | None = None
    """Digits after the point of numbers; None for settings."""


@dataclass(frozen=True)
class Comparison:
    """Two runs or more beside each other."""

    records: list[Record]
    settings: list[Line] = field(default_factory=list)
    """What differs, by the settings' dotted names."""
    results: list[Line] = field(default_factory=list)
    """State, scores, losses, size and time."""
    losses: list[Line] = field(default_factory=list)
    """Training loss at steps that all runs logged; titles are steps."""
    note: str = ""
    """What the losses must not be taken for."""


def compare(records: Sequence[Record]) -> Comparison:
    """Compare runs.

    Raises:
        LabError: fewer than two runs, or one of them twice.
    """
    identities = [record.identity for record in records]
    if len(records) < 2 or len(set(identities)) < len(identities):
        raise LabError(f"compare=[{','.join(identities)}]: give two different runs or more")
    found = [settings(record) for record in records]
    keys = dict.fromkeys(key for one in found for key in one)
    differing = [
        Line(key, [one.get(key) for one in found])
        for key in keys
        if any(one.get(key) != found[0].get(key) for one in found)
    ]
    losses = _losses(records)
    return Comparison(
        list(records), differing, _results(records), losses, _note(records, differing) if losses else ""
    )


def to_data(compared: Comparison) -> dict[str, Any]:
    """Return the comparison as data for JSON."""

    def of(lines: Sequence[Line]) -> dict[str, list[Any]]:
        return {line.title: [_finite(value) for value in line.values] for line in lines}

    return {
        "runs": [
            {"identity": r.identity, "command": r.command, "name": r.name, "folder": str(r.folder)}
            for r in compared.records
        ],
        "settings": of(compared.settings),
        "results": of(compared.results),
        "loss": of(compared.losses),
        "note": compared.note,
    }


def to_text(compared: Comparison) -> str:
    """Return the comparison as plain aligned text, never cut: for pipes and logs."""
    blocks = []
    for title, lines in _blocks(compared):
        rows = [[title, *_heads(compared)], *(_texts(line, len(compared.records)) for line in lines)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        blocks.append(
            "".join(
                "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() + "\n"
                for row in rows
            )
        )
    return "\n".join(blocks) + (f"\n{compared.note}\n" if compared.note else "")


def to_rich(compared: Comparison) -> Group:
    """Return the comparison for a rich console; markup in names is text."""
    parts: list[Any] = []
    for title, lines in _blocks(compared):
        table = rich.table.Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
        table.add_column(Text(title), overflow="fold")
        for head in _heads(compared):
            table.add_column(Text(head), justify="right" if lines is not compared.settings else "left")
        for line in lines:
            table.add_row(*map(Text, _texts(line, len(compared.records))))
        parts += [table, Text()]
    return Group(*parts, *([Text(compared.note, style="yellow")] if compared.note else []))


def _blocks(compared: Comparison) -> list[tuple[str, list[Line]]]:
    told = compared.settings or [Line("(no difference)", [""] * len(compared.records))]
    blocks = [("SETTINGS THAT DIFFER", told), ("RESULTS", compared.results)]
    return [*blocks, *([("LOSS AT STEP", compared.losses)] if compared.losses else [])]


def _heads(compared: Comparison) -> list[str]:
    heads = [record.identity for record in compared.records]
    return [*heads, "DIFFERENCE"] if len(heads) == 2 else heads


def _texts(line: Line, runs: int) -> list[str]:
    texts = [one_line(line.title), *(_text(value, line.digits) for value in line.values)]
    if runs == 2:
        first, second = (as_number(value) for value in line.values)
        known = line.digits is not None and first is not None and second is not None
        texts.append(
            f"{second - first:+.{line.digits}f}" if known and first is not None and second is not None else ""
        )
    return texts


def _text(value: Any, digits: int | None) -> str:
    if value is None:
        return DASH
    number = as_number(value)
    return (
        f"{number:.{digits}f}" if digits is not None and number is not None else one_line(str(value)) or DASH
    )


def _results(records: Sequence[Record]) -> list[Line]:
    lines = [
        Line("name", [record.name for record in records]),
        Line("state", [record.state for record in records]),
    ]
    scores = [record.get("scores") or {} for record in records]
    for name in dict.fromkeys(name for one in scores for name in one):
        lines.append(Line(str(name), [as_number(one.get(name)) for one in scores], 2))
    for title, path, factor, digits in _NUMBERS:
        values = [record.number(path) for record in records]
        if any(value is not None for value in values):
            scaled = [None if value is None else value * factor for value in values]
            lines.append(Line(title, scaled, digits))
    return lines


def _losses(records: Sequence[Record]) -> list[Line]:
    curves: list[dict[float, float]] = [dict(curve_of(record).training) for record in records]
    common: Points = [(step, 0.0) for step in sorted(set.intersection(*(set(curve) for curve in curves)))]
    return [Line(f"{step:.0f}", [curve[step] for curve in curves], 4) for step, _ in thin(common, _LOSSES)]


def _note(records: Sequence[Record], differing: Sequence[Line]) -> str:
    """A loss is of an objective, or of a task."""
    commands = {record.command for record in records}
    loss_of = "task." if commands == {"finetune"} else "objective."
    if len(commands) == 1 and not any(line.title.startswith(loss_of) for line in differing):
        return ""
    return "These losses are different quantities (of different objectives or tasks): compare scores."


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not abs(value) < float("inf") else value
