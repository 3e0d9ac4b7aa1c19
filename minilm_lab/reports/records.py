"""Read what runs left on disk. A broken folder is reported as such and never stops the reading."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RUNNING = "RUNNING"
COMPLETED = "COMPLETED"
FAILED = "FAILED"
INTERRUPTED = "INTERRUPTED"
"""It was stopped, or its process is gone from this machine; started again, it resumes."""
UNREADABLE = "UNREADABLE"
"""The state of a run folder whose own files cannot be read; `Record.error` says why."""
_STATES = (RUNNING, COMPLETED, INTERRUPTED, FAILED)
_RUN_FOLDER = re.compile(r"^(?P<slug>.+)-(?P<identity>[0-9a-f]{8,64})$")
_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class Record:
    """What is known of one run: `status.json`, `result.json` and the end of `metrics.jsonl`."""

    folder: Path
    """The run's folder, `<runs>/<command>/<slug>-<identity>`."""
    command: str
    """`distill`, `finetune`, `speed`, …"""
    name: str
    """Name for people; the folder's slug until the run has completed."""
    identity: str
    """Hash of what the run computes."""
    state: str
    """`RUNNING`, `COMPLETED`, `INTERRUPTED`, `FAILED`, or `UNREADABLE`."""
    error: str | None = None
    """Why the run failed, or why its folder cannot be read."""
    pid: int | None = None
    """Process that worked on the run last."""
    host: str | None = None
    """Machine of that process."""
    started: datetime | None = None
    """Start, with time zone."""
    updated: datetime | None = None
    """Last sign of life, with time zone; the folder's modification time if the status has none."""
    result: dict[str, Any] = field(default_factory=dict)
    """`result.json` as it is; empty unless the run completed."""
    progress: dict[str, Any] = field(default_factory=dict)
    """The last whole line of `metrics.jsonl`; empty for a completed run, which has a result."""

    @property
    def completed(self) -> bool:
        """Whether the run has a result."""
        return self.state == COMPLETED

    def get(self, path: str) -> Any:
        """Return the result's value at a dotted path such as ``"config.student.layers"``, or None."""
        value: Any = self.result
        for key in path.split("."):
            if not isinstance(value, dict) or key not in value:
                return None
            value = value[key]
        return value

    def number(self, path: str) -> float | None:
        """Return the number at a dotted path (NaN included), or None if there is none."""
        return as_number(self.get(path))

    @property
    def seed(self) -> int | None:
        """Seed of the run, `config.seed`."""
        seed = self.get("config.seed")
        return seed if isinstance(seed, int) and not isinstance(seed, bool) else None

    @property
    def score(self) -> tuple[str, float] | None:
        """Name and value (0 to 100) of a fine-tuning run's headline score."""
        name, value = self.get("score.name"), self.number("score.value")
        return (name, value) if isinstance(name, str) and value is not None else None


def load(runs_dir: str | Path) -> list[Record]:
    """Return a record for every run folder under `runs_dir`, ordered by path.

    Run folders are `<command>/<slug>-<identity>`. One that cannot be read is a record in the state
    `UNREADABLE`; other folders are passed over. A `runs_dir` that does not
    exist holds no runs.
    """
    return [_record(folder) for folder in _run_folders(Path(runs_dir))]


def read_metrics(folder: str | Path) -> list[dict[str, Any]]:
    """Return the lines of a run's `metrics.jsonl` in the order written; a cut or foreign line is skipped."""
    try:
        text = (Path(folder) / "metrics.jsonl").read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return []
    return list(_objects(text))


def as_number(value: object) -> float | None:
    """Return `value` as a float if it is a number and no bool (NaN included), else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _run_folders(runs_dir: Path) -> Iterator[Path]:
    for command in _subfolders(runs_dir):
        for folder in _subfolders(command):
            if _RUN_FOLDER.match(folder.name) or (folder / "status.json").exists():
                yield folder


def _subfolders(folder: Path) -> list[Path]:
    # The system says what is a folder as it lists them: of ten thousand runs none is asked about.
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
        return [folder / name for name in sorted(names)]
    except OSError:
        return []


def _record(folder: Path) -> Record:
    slug, identity = _split_name(folder.name)
    problems: list[str] = []
    status = _read_object(folder / "status.json", problems)
    state = status.get("state")
    if not problems and state not in _STATES:
        problems.append(f"status.json has state {state!r}, not one of {', '.join(_STATES)}")
    result: dict[str, Any] = {}
    if not problems and state == COMPLETED:
        result = _read_object(folder / "result.json", problems)
    pid, host = status.get("pid"), status.get("host")
    return Record(
        folder=folder,
        command=_text(result.get("command")) or folder.parent.name,
        name=_text(result.get("name")) or _text(status.get("name")) or slug or folder.name,
        identity=_text(result.get("identity")) or identity,
        state=UNREADABLE if problems else str(state),
        error="; ".join(problems) if problems else _text(status.get("error")),
        pid=pid if isinstance(pid, int) and not isinstance(pid, bool) and pid > 0 else None,
        host=_text(host),
        started=_time(status.get("started")),
        updated=_time(status.get("updated")) or _modified(folder),
        result=result,
        progress={} if state == COMPLETED else _last_metrics(folder),
    )


def _split_name(name: str) -> tuple[str, str]:
    match = _RUN_FOLDER.match(name)
    return (match["slug"], match["identity"]) if match else (name, "")


def _read_object(path: Path, problems: list[str]) -> dict[str, Any]:
    # RecursionError: a file of a hundred thousand brackets is valid enough to exhaust the parser.
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        problems.append(f"{path.name} is missing")
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{path.name} cannot be read ({type(error).__name__})")
    else:
        if isinstance(value, dict):
            return value
        problems.append(f"{path.name} holds a {type(value).__name__}, not an object")
    return {}


def _last_metrics(folder: Path) -> dict[str, Any]:
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return {}
    last: dict[str, Any] = {}
    for line in _objects(text):
        # Lines of held-out loss or dev scores come between those of the training loss: keep the newest of each.
        last.update(line)
    return last


def _objects(text: str) -> Iterator[dict[str, Any]]:
    for line in text.split("\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    # A time without zone is taken as UTC, so that times can always be compared.
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


def _modified(folder: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(folder.stat().st_mtime, UTC)
    except (OSError, ValueError, OverflowError):
        return None
