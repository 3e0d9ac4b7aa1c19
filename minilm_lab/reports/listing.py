"""The list of runs: what `minilm-lab runs` shows."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilm_lab.errors import LabError, nearest
from minilm_lab.reports.records import COMPLETED, FAILED, INTERRUPTED, RUNNING, UNREADABLE, Record, as_number
from minilm_lab.reports.text import DASH, aligned, one_line, shortened

if TYPE_CHECKING:
    import rich.table

STATES = (RUNNING, INTERRUPTED, COMPLETED, FAILED, UNREADABLE)
SORTS = ("age", "score", "loss", "name")
"""What the list can be sorted by: newest first; best score first; lowest loss first; by name."""

_HEADINGS = ["STATE", "COMMAND", "NAME", "RESULT", "AGE", "IDENTITY"]
_STYLES = {RUNNING: "cyan", INTERRUPTED: "yellow", COMPLETED: "green", FAILED: "red", UNREADABLE: "magenta"}
_RESULT_LENGTH = 60
_OLDEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Listed:
    """One line of the list."""

    state: str
    """The record's state, or `INTERRUPTED`."""
    result: str
    """Score, loss, how far a run got, or its error."""
    age: str
    """Time since the last sign of life: ``"3 min ago"``."""
    record: Record

    @property
    def texts(self) -> list[str]:
        """State, command, name, result, age and identity, each on one line."""
        command, name, identity = map(one_line, (self.record.command, self.record.name, self.record.identity))
        return [self.state, command, name, self.result, self.age, identity or DASH]


def list_runs(
    records: Iterable[Record],
    *,
    now: datetime | None = None,
    command: str | None = None,
    state: str | None = None,
    contains: str | None = None,
    sort: str = "age",
) -> list[Listed]:
    """Return the runs that match all filters, in the order of `sort`.

    Args:
        records: from `records.load`.
        now: time that ages are counted from (with time zone); the present one if None.
        command: keep this command's runs.
        state: keep runs in this state, one of `STATES`, in upper or lower case.
        contains: keep runs with this text in their name or identity, in upper or lower case.
        sort: one of `SORTS`; runs without a score or loss come last.

    Raises:
        LabError: `state` is no state, or `sort` no order.
    """
    now = now or datetime.now(UTC)
    if state is not None and state.upper() not in STATES:
        raise LabError(
            f"state={state!r} must be one of {', '.join(STATES)}." + nearest(state.upper(), STATES)
        )
    if sort not in SORTS:
        raise LabError(f"sort={sort} must be one of {', '.join(SORTS)}." + nearest(sort, SORTS))
    listed = []
    for record in sorted(records, key=lambda record: record.updated or _OLDEST, reverse=True):
        line = Listed(_state(record), _result(record), _age(record.updated, now), record)
        if command is not None and record.command != command:
            continue
        if state is not None and line.state != state.upper():
            continue
        if contains is None or contains.casefold() in f"{record.name}\n{record.identity}".casefold():
            listed.append(line)
    # Sorting is stable: what is equal stays newest first.
    return listed if sort == "age" else sorted(listed, key=_ORDERS[sort])


def process_alive(pid: int, seen: datetime | None) -> bool:
    """Return whether process `pid` of this machine is alive and old enough to have been seen at `seen`.

    Ids are used again, quickly so in containers: a process born after the run's last sign of life is another one.
    """
    import psutil

    try:
        born = psutil.Process(pid).create_time()
    except (psutil.NoSuchProcess, OverflowError, ValueError):
        return False
    except psutil.Error:  # it is somebody else's
        return True
    return seen is None or born <= seen.timestamp() + 5


def to_rich(listed: Sequence[Listed]) -> rich.table.Table:
    """Return the list for a rich console; markup in names is text."""
    import rich.table
    from rich import box
    from rich.text import Text

    table = rich.table.Table(
        box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0), collapse_padding=True
    )
    for heading in _HEADINGS:
        # In a narrow terminal names and results are wrapped; nothing is cut.
        table.add_column(heading.capitalize(), no_wrap=heading not in ("NAME", "RESULT"), overflow="fold")
    for line in listed:
        state, *texts = line.texts
        table.add_row(Text(state, style=_STYLES[state]), *map(Text, texts))
    return table


def to_text(listed: Sequence[Listed]) -> str:
    """Return the list as plain aligned text, never cut: for pipes and logs."""
    return aligned([_HEADINGS, *(line.texts for line in listed)])


def to_data(listed: Sequence[Listed]) -> list[dict[str, Any]]:
    """Return the list as data for JSON: full texts, ISO times, `score` and `loss` as numbers or null."""
    return [_data(line) for line in listed]


def _data(line: Listed) -> dict[str, Any]:
    record = line.record
    score = record.score
    # JSON has no NaN: a score that is not finite is null, its name still there.
    return {
        "state": line.state,
        "command": record.command,
        "name": record.name,
        "identity": record.identity,
        "score": None if score is None else {"name": score[0], "value": _finite(score[1])},
        "loss": _finite(_loss(record)),
        "step": _finite(as_number(record.progress.get("step"))),
        "error": record.error,
        "started": record.started.isoformat() if record.started else None,
        "updated": record.updated.isoformat() if record.updated else None,
        "folder": str(Path(record.folder)),
    }


def _state(record: Record) -> str:
    # What runs elsewhere, or who runs it, cannot be known from here.
    here = record.state == RUNNING and record.host == socket.gethostname() and record.pid is not None
    return INTERRUPTED if here and not process_alive(record.pid or 0, record.updated) else record.state


def _loss(record: Record) -> float | None:
    return record.number("loss") if record.completed else as_number(record.progress.get("loss"))


def _by_score(line: Listed) -> float:
    score = _finite(line.record.score[1]) if line.record.score is not None else None
    return math.inf if score is None else -score


def _by_loss(line: Listed) -> float:
    # The held-out loss where there is one: the last training loss is that of a few batches.
    held_out = line.record.number("held_out_loss.last")
    loss = _finite(held_out if held_out is not None else _loss(line.record))
    return math.inf if loss is None else loss


_ORDERS: dict[str, Callable[[Listed], Any]] = {
    "score": _by_score,
    "loss": _by_loss,
    "name": lambda line: line.record.name.casefold(),
}


def _result(record: Record) -> str:
    loss = _loss(record)
    loss_text = "" if loss is None else f"loss {loss:.4g}"
    if record.completed:
        score = record.score
        text = loss_text if score is None else f"{score[0]} {score[1]:.1f}"
    elif record.error:
        text = record.error
    else:
        step = as_number(record.progress.get("step"))
        text = ", ".join(part for part in ("" if step is None else f"step {step:.0f}", loss_text) if part)
    return shortened(text, _RESULT_LENGTH) or DASH


def _age(then: datetime | None, now: datetime) -> str:
    if then is None:
        return DASH
    seconds = (now - then).total_seconds()
    if seconds < 1:
        return "now"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) < float("inf") else None
