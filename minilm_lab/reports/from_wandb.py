"""Records of runs as Weights & Biases keeps them: tables made of these equal those made of the folders of runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from minilm_lab.errors import LabError
from minilm_lab.reports.records import COMPLETED, FAILED, RUNNING, as_number
from minilm_lab.runs.files import write_atomically, write_json
from minilm_lab.runs.identity import slug

RECORD = "record"
"""Key of the record in a run's summary, as JSON text (see training/wandb_run.py, which writes it)."""
COMMANDS = ("distill", "pretrain", "finetune", "speed")
"""Job types that are runs of the lab; tables are made of them and are none."""
_RUNNING = ("running", "pending", "preempting")
"""W&B's states of a run that has not ended; whatever ended without its record has failed."""
_STEP = "trainer/global_step"


def fetch(project: str, into: Path, entity: str | None = None, api: Any = None) -> Path:
    """Write the runs of a project as folders of runs below `into`, with the losses of distillations; return `into`.

    Everything that reads a folder of runs works on it. A finished run that left no record is FAILED and says so. A
    completed run that was fetched before is not asked for its losses again.

    Args:
        project: the logger's `project`.
        into: the folder.
        entity: user or team; None = the default one of the login.
        api: a `wandb.Api`; None = one of the present login.

    Raises:
        LabError: nobody is logged in, or the project cannot be read.
    """
    for run in _runs(project, entity, api):
        result = _result(run.summary_metrics.get(RECORD))
        # Names are what others wrote: as folders they must stay where they belong.
        folder = into / run.job_type / f"{slug(str(result.get('name') or run.name))}-{slug(run.id)}"
        known = (folder / "result.json").is_file() and (folder / "metrics.jsonl").is_file()
        state, error = COMPLETED, None
        if result:
            write_json(folder / "result.json", result)
        else:
            state = RUNNING if run.state in _RUNNING else FAILED
            ended = "W&B has no record of it" if run.state == "finished" else f"W&B: {run.state}"
            error = ended if state == FAILED else None
        if run.job_type == "distill" and not known:
            lines = "".join(json.dumps(line) + "\n" for line in _metrics(run))
            write_atomically(folder / "metrics.jsonl", lines.encode())
        # Last, as it says that the others are there.
        times = {"started": run.created_at, "updated": run.heartbeat_at}
        write_json(folder / "status.json", {"state": state, "error": error, **times})
    return into


def _runs(project: str, entity: str | None, api: Any) -> Iterable[Any]:
    import wandb

    path = f"{entity}/{project}" if entity else project
    try:
        api = api or wandb.Api()
        # lazy=False: configs and summaries come with the list, not by one request a run.
        listed = list(api.runs(path, per_page=200, lazy=False))
    except wandb.errors.UsageError as error:
        raise LabError(f"W&B cannot be asked ({error}): `wandb login` first, or set WANDB_API_KEY") from error
    except (wandb.errors.Error, ValueError, OSError) as error:
        raise LabError(f"the W&B project {path} cannot be read: {error}") from error
    return [run for run in listed if run.job_type in COMMANDS]


def _result(text: object) -> dict[str, Any]:
    if not isinstance(text, str):
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


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
