"""What a table's runs are expected to cost, before they run: floating-point operations, and time at a known speed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minilm_lab.runs.graph import Run

#: Share of a matrix product's speed that a training step here reaches, about (`minilm-lab bench`: 0.57 to 0.62).
UTILISATION = 0.5
#: A card for comparison: 312 TFLOP/s of an A100 in bf16, at 40 %.
CARD = 0.4 * 312e12


def describe(runs: Sequence[Run], records: Mapping[str, Mapping[str, Any] | None]) -> str:
    """How much is to do, and how long it takes at the speed of what is done, or of this machine.

    records: identity -> record, None of a run that is to do.
    """
    todo = [run for run in runs if records[run.identity] is None]
    done = len(runs) - len(todo)
    ahead = sum(run.cost() for run in todo)
    if not todo:
        return f"all {done} runs are done"
    speed, source = _speed((run, records[run.identity] or {}) for run in runs)
    return (
        f"{len(todo)} runs to do, {done} done. About {_size(ahead)} (layers alone): "
        f"{_time(ahead / speed)} {source}, {_time(ahead / CARD)} on an A100 at 40 %"
    )


def _speed(runs: Iterable[tuple[Run, Mapping[str, Any]]]) -> tuple[float, str]:
    """Operations a second, and where that comes from."""
    work = seconds = 0.0
    count = 0
    for run, record in runs:
        took = record.get("wall_clock_s")
        if isinstance(took, (int, float)) and took > 0 and (operations := run.cost()) > 0:
            work, seconds, count = work + operations, seconds + took, count + 1
    if count:
        return work / seconds, f"at the speed of the {count} runs of this table that are done"
    return UTILISATION * _matrix_speed(), "at half the speed of a matrix product on this machine"


def _matrix_speed() -> float:
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = 4096 if device.type == "cuda" else 768
    a = torch.randn(size, size, device=device)
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        (a @ a).sum().item()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _size(operations: float) -> str:
    return f"{operations / 1e15:,.3g} PFLOP" if operations >= 1e14 else f"{operations / 1e12:.3g} TFLOP"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.0f} days"
