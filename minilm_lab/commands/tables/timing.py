"""The speed column of a table: forward times of its rows' models, measured once on each hardware."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minilm_lab.benchmarks import rows
from minilm_lab.commands.tables.planning import CellPlan
from minilm_lab.reports.records import Record
from minilm_lab.runs.environment import hardware
from minilm_lab.runs.folder import RunFolder, execute
from minilm_lab.runs.identity import identity_of, slug
from minilm_lab.training.settings import How


def measure(name: str, planned: Sequence[CellPlan]) -> None:
    """Time the models of the rows, once all of them are there; needs a row that is the teacher."""
    teacher = _teacher(planned)
    first = {cell.row.key: cell.first for cell in reversed(planned)}
    if teacher is None or not all(needed.done for run in first.values() for needed in run.inputs):
        return
    what, folder = _timing(name, teacher, planned)
    how = _how(planned)
    models = {key: run.job.source for key, run in first.items()}

    def work(_: RunFolder) -> dict[str, Any]:
        import torch

        from minilm_lab.training.devices import uses_gpu
        from minilm_lab.training.loggers import close, finish

        if how.impl.threads is not None:
            torch.set_num_threads(how.impl.threads)
        device = torch.device("cuda" if uses_gpu(how.trainer.accelerator) else "cpu")
        part = {"rows": what["rows"], **rows.time_rows(models, teacher, device)}
        about = {
            "identity": folder.identity,
            "command": "speed",
            "name": folder.name,
            "experiment": how.experiment,
        }
        try:
            finish(how.logger.build(folder.path, about), {}, record=part)
        finally:
            close()
        return part

    execute(folder, what, how.plain(), work)


def recorded(name: str, planned: Sequence[CellPlan], found: Sequence[Record]) -> Record | None:
    """The record that timed these rows on this hardware, else the newest from elsewhere."""
    teacher = _teacher(planned)
    if teacher is None:
        return None
    keys, here = _keys(planned), _timing(name, teacher, planned)[1].identity
    timings = [r for r in found if r.command == "speed" and r.completed]
    own = [r for r in timings if r.identity == here]
    elsewhere = [r for r in timings if r.get("rows") == keys and teacher in (r.get("ratio") or {})]
    return next(iter(own or sorted(elsewhere, key=lambda r: str(r.updated), reverse=True)), None)


def _timing(name: str, teacher: str, planned: Sequence[CellPlan]) -> tuple[dict[str, Any], RunFolder]:
    """What is timed on this hardware, and the folder of that run."""
    what = {
        "rows": _keys(planned),
        "teacher": teacher,
        "hardware": hardware(),
        "shape": [rows.BATCH, rows.LENGTH],
    }
    return what, RunFolder(_how(planned).runs, "speed", slug(name), identity_of("speed", what))


def _teacher(planned: Sequence[CellPlan]) -> str | None:
    return next((cell.row.key for cell in planned if cell.row.teacher), None)


def _keys(planned: Sequence[CellPlan]) -> dict[str, Any]:
    """What identifies the model of each row: that of its first seed."""
    return {cell.row.key: cell.first.what["source"] for cell in reversed(planned)}


def _how(planned: Sequence[CellPlan]) -> How:
    return planned[0].first.job.how
