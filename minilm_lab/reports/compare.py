"""Runs side by side: the settings in which they differ, their scores, and the loss at equal steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minilm_lab.errors import LabError
from minilm_lab.reports.curves import curve_of, thin
from minilm_lab.reports.records import Record, as_number
from minilm_lab.reports.select import settings
from minilm_lab.reports.text import DASH, aligned, one_line

if TYPE_CHECKING:
    from rich.console import Group

_LOSSES = 8
"""Lines of losses that are shown."""
_NUMBERS = (
    ("held-out loss", "held_out_loss.last", 1.0, 4),
    ("loss", "loss", 1.0, 4),
    ("held-out perplexity", "held_out_perplexity.last", 1.0, 1),
    ("parameters (M)", "parameters.total", 1e-6, 2),
    ("tokens seen (M)", "tokens_seen", 1e-6, 2),
    ("wall clock (s)", "wall_clock_s", 1.0, 1),
)
"""Facts of a record that are numbers: title, path, factor, digits."""


@dataclass(frozen=True)
class Line:
    """One line of the comparison: a value a run, in the order of the runs."""

    title: str
    values: list[Any]
    digits: int | None = None
    """Digits after the point of numbers; None for settings."""

    def texts(self) -> list[str]:
        """Title, values, and of two runs the difference of their numbers."""
        numbers = [as_number(value) for value in self.values]
        texts = [
            f"{number:.{self.digits}f}" if self.digits is not None and number is not None else _text(value)
            for number, value in zip(numbers, self.values, strict=True)
        ]
        if len(numbers) == 2:
            first, second = numbers
            known = self.digits is not None and first is not None and second is not None
            texts.append(f"{second - first:+.{self.digits}f}" if known else "")  # type: ignore[operator]
        return [one_line(self.title), *texts]


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
    every = [settings(record) for record in records]
    lines = [
        Line(key, [each.get(key) for each in every]) for key in dict.fromkeys(k for e in every for k in e)
    ]
    differing = [line for line in lines if any(value != line.values[0] for value in line.values)]
    losses = _losses(records)
    note = _note(records, differing) if losses else ""
    return Comparison(list(records), differing, _results(records), losses, note)


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
    return "\n".join(map(aligned, _blocks(compared))) + (f"\n{compared.note}\n" if compared.note else "")


def to_rich(compared: Comparison) -> Group:
    """Return the comparison for a rich console; markup in names is text."""
    import rich.table
    from rich import box
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = []
    for (title, *heads), *lines in _blocks(compared):
        table = rich.table.Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
        table.add_column(Text(title), overflow="fold")
        for head in heads:
            table.add_column(Text(head), justify="left" if title.startswith("SETTINGS") else "right")
        for line in lines:
            table.add_row(*map(Text, line))
        parts += [table, Text()]
    return Group(*parts, *([Text(compared.note, style="yellow")] if compared.note else []))


def _blocks(compared: Comparison) -> list[list[list[str]]]:
    """Blocks of lines of texts, the first of each its heading."""
    heads = [record.identity for record in compared.records]
    heads += ["DIFFERENCE"] if len(heads) == 2 else []
    differing = compared.settings or [Line("(no difference)", [""] * len(compared.records))]
    blocks = {"SETTINGS THAT DIFFER": differing, "RESULTS": compared.results, "LOSS AT STEP": compared.losses}
    return [[[title, *heads], *(line.texts() for line in lines)] for title, lines in blocks.items() if lines]


def _text(value: Any) -> str:
    return DASH if value is None else one_line(str(value)) or DASH


def _results(records: Sequence[Record]) -> list[Line]:
    scores = [record.get("scores") or {} for record in records]
    lines = [Line("name", [r.name for r in records]), Line("state", [r.state for r in records])]
    for name in dict.fromkeys(name for each in scores for name in each):
        lines.append(Line(str(name), [as_number(each.get(name)) for each in scores], 2))
    for title, path, factor, digits in _NUMBERS:
        values = [record.number(path) for record in records]
        if any(value is not None for value in values):
            lines.append(Line(title, [None if value is None else value * factor for value in values], digits))
    return lines


def _losses(records: Sequence[Record]) -> list[Line]:
    curves = [dict(curve_of(record).training) for record in records]
    common = thin([(step, 0.0) for step in sorted(set.intersection(*map(set, curves)))], _LOSSES)
    return [Line(f"{step:.0f}", [curve[step] for curve in curves], 4) for step, _ in common]


def _note(records: Sequence[Record], differing: Sequence[Line]) -> str:
    """A loss is of an objective, or of a task."""
    commands = {record.command for record in records}
    loss_of = "task." if commands == {"finetune"} else "objective."
    if len(commands) == 1 and not any(line.title.startswith(loss_of) for line in differing):
        return ""
    return "These losses are different quantities (of different objectives or tasks): compare scores."


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not abs(value) < float("inf") else value
