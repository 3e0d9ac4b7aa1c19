"""The table of `minilm-lab speed`, from its record and the paper's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minilm_lab.benchmarks.backends import BACKENDS
from minilm_lab.benchmarks.subjects import shape_of
from minilm_lab.reports.table import MEASURE, Caption, Cell, Column, Row, Table

_DEVICES = {"cpu": "CPU", "cuda": "GPU"}


def build(record: Mapping[str, Any]) -> Table:
    """The table of a speed run's record, which holds its settings (`Timing`) as `timing`."""
    timing, seconds, ratio = record["timing"], record["seconds"], record["ratio"]
    paper, source = timing["paper"], timing["paper_source"]
    keys = [
        f"{backend}_{device}"
        for device in _DEVICES
        for backend in timing["backends"]
        if f"{backend}_{device}" in {*record["missing"], *(k for taken in seconds.values() for k in taken)}
    ]
    columns = [
        Column(
            "embeddings",
            "Emb",
            "parameters of the matrix of words alone: positions, token types and LayerNorm are not in it, as in the "
            "paper's numbers",
            MEASURE,
            suffix=" M",
        ),
        Column("transformer", "Transformer", "parameters of the layers, no pooler", MEASURE, suffix=" M"),
    ]
    for key in keys:
        columns.append(Column(f"{key}/ms", f"{_title(key)}: ms", "", MEASURE, decimals=1))
        columns.append(Column(f"{key}/x", f"{_title(key)}: speed-up", "", MEASURE, decimals=2, suffix="×"))
    first = timing["models"][0]
    cells: dict[str, dict[str, Cell]] = {}
    for name in timing["models"]:
        known, counts = paper.get(name, {}), record["parameters"][name]
        line = {
            "embeddings": _cell(counts["word_embeddings"] / 1e6, known.get("embeddings"), source),
            "transformer": _cell(counts["transformer"] / 1e6, known.get("transformer"), source),
        }
        for place, key in enumerate(keys):
            if key in seconds[name]:
                line[f"{key}/ms"] = _cell(1e3 * seconds[name][key]["median"])
            # The paper's speed-ups are those of eager code: they stand beside the first backend alone.
            speedup = known.get("speedup") if place == 0 and first in paper else None
            value = ratio[name][key]["median"] if key in ratio[name] else None
            line[f"{key}/x"] = _cell(value, speedup, source)
        cells[name] = line
    rows = [Row(name, _row(name), control=name == first) for name in timing["models"]]
    return Table("Parameters and time of a forward", rows, columns, cells, _caption(record, keys))


def _title(key: str) -> str:
    backend, _, device = key.rpartition("_")
    return f"{BACKENDS[backend]} {_DEVICES[device]}"


def _row(name: str) -> str:
    shape = shape_of(name)
    return Path(name).name if shape is None else f"{shape[0]} × {shape[1]}"


def _cell(value: float | None, paper: float | None = None, source: str = "") -> Cell:
    return Cell(
        [] if value is None else [value], paper=paper, paper_source=source if paper is not None else ""
    )


def _caption(record: Mapping[str, Any], keys: list[str]) -> Caption:
    timing, hardware, versions = record["timing"], record["hardware"], record["versions"]
    first = timing["models"][0]
    notes = [
        f"Milliseconds: median over {timing['batches']} batches of {timing['batch_size']} texts, at most {timing['length']} "
        f"tokens, each batch padded to its longest text (the paper has 100 batches and does not say of what size).",
        f"Speed-up: median over the batches of the time of {first} over the model's own, float32; all models and "
        "backends take turns.",
    ]
    spread = [_spread(record, key) for key in keys]
    if any(spread):
        notes.append(
            f"The 10th to the 90th percentile of the speed-up over the batches lies around its median by: {'; '.join(filter(None, spread))}."
        )
    notes += [f"{_title(key)} is missing: {reason}." for key, reason in record["missing"].items()]
    if any(shape_of(model) for model in timing["models"]):
        notes.append(
            "Rows are layers × hidden size with random weights: what a forward costs does not depend on their values."
        )
    notes.append(
        f"torch {versions['torch']}, transformers {versions['transformers']}, "
        f"ONNX Runtime {record['config']['versions']['onnxruntime'] or 'not installed'}."
    )
    where = [hardware["cpu"], f"{hardware['cores']} cores, {record['threads']} thread(s)", hardware["gpu"]]
    return Caption(
        scale=timing["name"],
        data=[record["data_note"]],
        hardware=[", ".join(part for part in where if part)],
        commits=[record["commit"]] if record["commit"] else [],
        notes=[*notes, *timing["notes"]],
    )


def _spread(record: Mapping[str, Any], key: str) -> str:
    """The widest spread of a backend's speed-ups, of all models but the first."""
    others = [
        record["ratio"][name][key] for name in record["timing"]["models"][1:] if key in record["ratio"][name]
    ]
    if not others:
        return ""
    below = max(1 - r["low"] / r["median"] for r in others)
    above = max(r["high"] / r["median"] - 1 for r in others)
    return f"{_title(key)} −{100 * below:.0f} to +{100 * above:.0f} % at most"
