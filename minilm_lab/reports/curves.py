"""Loss curves of runs: what plots draw, read from metrics."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minilm_lab.errors import LabError
from minilm_lab.reports.records import Record, as_number, read_metrics

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """Loss of one run by step."""

    label: str
    """Name in the legend."""
    training: Points = field(default_factory=list)
    """(step, training loss), steps rising."""
    held_out: Points = field(default_factory=list)
    """(step, loss on held-out blocks), steps rising."""


def curve_of(record: Record, label: str | None = None) -> Curve:
    """Return the curve of a run's `metrics.jsonl`, named `label` or else after the run."""
    return curve_from_metrics(label or record.name, read_metrics(record.folder))


def curve_from_metrics(label: str, lines: Iterable[Mapping[str, Any]]) -> Curve:
    """Return the curve in `lines` (`loss` and `held_out_loss` by `step`); what is not finite is left out.

    A resumed run writes the steps since its checkpoint again: the later line of a step counts.
    """
    training: dict[float, float] = {}
    held_out: dict[float, float] = {}
    for line in lines:
        step = as_number(line.get("step"))
        if step is None or not math.isfinite(step):
            continue
        for key, points in (("loss", training), ("held_out_loss", held_out)):
            value = as_number(line.get(key))
            if value is not None and math.isfinite(value):
                points[step] = value
    return Curve(label, sorted(training.items()), sorted(held_out.items()))


def write_curves(curves: Iterable[Curve], path: str | Path) -> Path:
    """Write curves as JSON that `read_curves` reads back, thinned and to six digits: a few KB a curve."""
    data = [
        {"label": curve.label, "training": _short(curve.training), "held_out": _short(curve.held_out)}
        for curve in curves
    ]
    path = Path(path)
    path.write_text(json.dumps(data, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_curves(path: str | Path) -> list[Curve]:
    """Return the curves that `write_curves` wrote; none if there is no such file.

    Raises:
        LabError: the file holds something else.
    """
    try:
        data = json.loads(Path(path).read_bytes())
        return [
            Curve(
                str(item["label"]),
                *([(float(x), float(y)) for x, y in item[key]] for key in ("training", "held_out")),
            )
            for item in data
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise LabError(f"{path} holds no loss curves: {type(error).__name__} {error}") from error


def _short(points: Points) -> list[list[float]]:
    return [[step, float(f"{value:.6g}")] for step, value in thin(points)]


def smooth(points: Points, share: float = 0.05) -> Points:
    """Return running means over a centred window of `share` of the points (at least 1), narrower at the ends."""
    reach = int(len(points) * share / 2)
    smoothed = []
    for i, (step, _) in enumerate(points):
        # At the steep start the window stays centred, or it would be pulled down; at the flat end it looks back.
        right = min(reach, i)
        window = points[max(0, i - reach) : i + right + 1]
        smoothed.append((step, math.fsum(value for _, value in window) / len(window)))
    return smoothed


def thin(points: Points, most: int = 400) -> Points:
    """Return at most `most` points, evenly chosen, the first and the last among them."""
    if len(points) <= most:
        return points
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def describe(curve: Curve) -> str:
    """Return the curve in words, for who cannot see the plot."""
    parts = []
    for name, points in (("training loss", curve.training), ("held-out loss", curve.held_out)):
        if points:
            (first_step, first), (last_step, last) = points[0], points[-1]
            parts.append(f"{name} {first:.4g} at step {first_step:.0f}, {last:.4g} at step {last_step:.0f}")
    return f"{curve.label}: {'; '.join(parts) or 'no losses recorded'}."
