"""Records of runs as Weights & Biases keeps them: tables made of these equal those made of the folders of runs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from minilm_lab.errors import LabError
from minilm_lab.reports.records import COMPLETED, FAILED, RUNNING, UNREADABLE, Record, as_number
from minilm_lab.runs.facets import flatten
from minilm_lab.runs.files import write_atomically, write_json
from minilm_lab.runs.identity import slug

log = logging.getLogger(__name__)

RECORD = "record"
"""Key of the record in a run's summary, as JSON text (see training/wandb_run.py, which writes it)."""
COMMANDS = ("distill", "pretrain", "finetune", "speed")
"""Job types that are runs of the lab; tables are made of them and are none."""
_STATES = {"finished": COMPLETED, "running": RUNNING, "pending": RUNNING, "preempting": RUNNING}
"""W&B's states -> ours; whatever else ended without its record has failed."""
_STEP = "trainer/global_step"


def load(project: str, entity: str | None = None, api: Any = None) -> list[Record]:
    """Return a record for every run of a project, ordered by command, name and identity.

    A finished run without its record (mirrored by an older version) is `UNREADABLE`.

    Args:
        project: the logger's `project`.
        entity: user or team; None = the default one of the login.
        api: a `wandb.Api`; None = one of the present login.

    Raises:
        LabError: nobody is logged in, or the project cannot be read.
    """
    found = [_record(run) for run in _runs(project, entity, api)]
    return sorted(found, key=lambda record: (record.command, record.name, record.identity))


def fetch(project: str, into: Path, entity: str | None = None, api: Any = None) -> Path:
    """Write what `load` finds as folders of runs below `into`, with the losses of distillations, and return `into`.

    Everything that reads a folder of runs (`records.load`, `curves.curve_of`) works on it. A completed run that
    was fetched before is not asked for its losses again.
    """
    for run in _runs(project, entity, api):
        record = _record(run)
        folder = into / record.folder
        known = (folder / "result.json").is_file()
        if record.completed:
            write_json(folder / "result.json", record.result)
        if record.command == "distill" and not (known and (folder / "metrics.jsonl").is_file()):
            lines = "".join(json.dumps(line) + "\n" for line in _metrics(run))
            write_atomically(folder / "metrics.jsonl", lines.encode())
        # Last, as it says that the others are there.
        write_json(folder / "status.json", _status(record))
    return into


def _runs(project: str, entity: str | None, api: Any) -> Iterable[Any]:
    import wandb

    path = f"{entity}/{project}" if entity else project
    try:
        api = api or wandb.Api()
        # lazy=False: configs and summaries come with the list, not by one request a run.
        found = list(api.runs(path, per_page=200, lazy=False))
    except wandb.errors.UsageError as error:
        raise LabError(f"W&B cannot be asked ({error}): `wandb login` first, or set WANDB_API_KEY") from error
    except (wandb.errors.Error, ValueError, OSError) as error:
        raise LabError(f"the W&B project {path} cannot be read: {error}") from error
    return [run for run in found if run.job_type in COMMANDS]


def _record(run: Any) -> Record:
    summary, config = dict(run.summary_metrics), dict(run.config)
    result = _result(summary.get(RECORD))
    state, error = _STATES.get(run.state, FAILED), None
    if result:
        state = COMPLETED
    elif state == COMPLETED:
        state, error = UNREADABLE, "W&B has no record of it (it was mirrored by an older version of the lab)"
    elif state == FAILED:
        error = f"W&B: {run.state}"
    command = str(result.get("command") or config.get("command") or run.job_type)
    name = str(result.get("name") or run.name)
    return Record(
        # Names are what others wrote: as folders they must stay where they belong.
        folder=Path(run.job_type) / f"{slug(name)}-{slug(run.id)}",
        command=command,
        name=name,
        identity=str(run.id),
        state=state,
        error=error,
        started=_time(run.created_at),
        updated=_time(run.heartbeat_at),
        result=result,
        progress={} if state == COMPLETED else _progress(flatten(summary)),
    )


def _result(text: object) -> dict[str, Any]:
    if not isinstance(text, str):
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _progress(flat: dict[str, Any]) -> dict[str, Any]:
    told = {"step": flat.get(_STEP), "loss": flat.get("loss.last", flat.get("loss"))}
    return {key: value for key, value in told.items() if as_number(value) is not None}


def _metrics(run: Any) -> Iterable[dict[str, Any]]:
    """The run's history as lines of metrics.jsonl; of a step written twice (by a resumed run) the later one."""
    lines: dict[Any, dict[str, Any]] = {}
    for item in run.scan_history():
        values = {
            key: value
            for key, value in item.items()
            if not key.startswith("_") and as_number(value) is not None
        }
        step = values.pop(_STEP, None)
        if step is not None and values:
            lines.setdefault(step, {"step": step}).update(values)
    return [lines[step] for step in sorted(lines)]


def _status(record: Record) -> dict[str, Any]:
    return {
        "state": FAILED if record.state == UNREADABLE else record.state,
        "error": record.error,
        "started": record.started.isoformat() if record.started else None,
        "updated": record.updated.isoformat() if record.updated else None,
    }


def _time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time
