"""The ways in which a forward is run: eager torch, compiled torch, ONNX Runtime in float32 and with int8 weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from minilm_lab.errors import LabError
from minilm_lab.exporting import graph, quantised
from minilm_lab.exporting.forwards import of_onnx

#: Backend -> what it is called in a table.
BACKENDS = {
    "torch": "torch",
    "compile": "torch.compile",
    "onnx": "ONNX Runtime",
    "onnx_int8": "ONNX Runtime, int8",
}
#: Forwards one batch of inputs by name, int64 (texts, tokens), to its end.
Run = Callable[[Mapping[str, np.ndarray]], object]
_NEEDED = ("onnx", "onnxruntime", "onnxscript")


def make(
    body: PreTrainedModel,
    names: Sequence[str],
    backends: Sequence[str],
    devices: Sequence[torch.device],
    folder: Path,
) -> Iterator[tuple[str, Callable[[], Run]]]:
    """Yield ("<backend>_<device>", a maker of it) for what fits a device; a maker may raise whatever goes wrong.

    folder: where ONNX files go.
    """
    for backend in backends:
        if backend in ("torch", "compile"):
            for device in devices:
                yield f"{backend}_{device.type}", partial(_torch, body, names, device, backend == "compile")
        elif any(device.type == "cpu" for device in devices):
            yield f"{backend}_cpu", partial(_onnx, body, list(names), folder, backend == "onnx_int8")


def _torch(body: PreTrainedModel, names: Sequence[str], device: torch.device, compiled: bool) -> Run:
    # Each device has weights of its own: the turns go from one to the other.
    model: Any = body if device.type == "cpu" else _copy(body)
    model.to(device)
    if compiled:
        # Every model adds a variant of the same code; beyond the usual 8 torch would fall back to eager, silently.
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
        model = torch.compile(model, dynamic=True, fullgraph=True)

    def run(batch: Mapping[str, np.ndarray]) -> object:
        inputs = {name: torch.from_numpy(batch[name]).to(device) for name in names}
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return hidden

    return run


def _copy(body: PreTrainedModel) -> Any:
    other: Any = type(body)(body.config)
    if hasattr(other, "pooler"):
        other.pooler = None
    other.load_state_dict(body.state_dict())
    return other.eval()


def _onnx(body: PreTrainedModel, names: list[str], folder: Path, int8: bool) -> Run:
    if any(importlib.util.find_spec(package) is None for package in _NEEDED):
        raise LabError(f"{', '.join(_NEEDED)} are needed: pip install minilm-lab[export]")
    exact, rounded = folder / "model.onnx", folder / "model_int8.onnx"
    if not exact.exists():
        graph.write_onnx(body, names, exact)
    if int8:
        quantised.write_int8(exact, rounded)
    return of_onnx(rounded if int8 else exact, names)
