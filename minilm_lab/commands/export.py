"""`minilm-lab export`: write a student for others, whole and checked or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from transformers.utils import logging as transformers_logging

from minilm_lab import config
from minilm_lab.errors import LabError
from minilm_lab.exporting.card import Measured
from minilm_lab.exporting.job import Export, prepare
from minilm_lab.exporting.push import push
from minilm_lab.exporting.request import Request
from minilm_lab.models.resolve import resolve
from minilm_lab.tasks.base import Task
from minilm_lab.training.settings import Paths

_GROUPS = ("task", "paths", "experiment_name")


def plan(cfg: DictConfig) -> Export:
    """Check everything that can be checked without the weights."""
    paths: Paths = config.section(cfg, "paths")
    task: Task = config.section(cfg, "task")
    request = _request(cfg)
    if paths.hub is not None and not Path(paths.hub).expanduser().is_dir():
        raise LabError(f"paths.hub={paths.hub} is not a folder; it holds <owner>/<name>/… as on the hub")
    runs, cache = Path(paths.runs).expanduser(), Path(paths.cache).expanduser()
    origin = resolve(request.run, runs=runs, cache=cache, key="run")
    return prepare(request, origin, task, paths.hub, cache)


def run(cfg: DictConfig) -> None:
    """Entry point for Hydra."""
    transformers_logging.disable_progress_bar()
    ready = plan(cfg)
    for line in measured_lines(ready.write()):
        print(line)
    print(f"folder: {ready.out.resolve()}")
    if ready.request.push is not None:
        print(f"uploaded: {push(ready.out, ready.request.push, ready.request.private)}")


def measured_lines(measured: Measured) -> list[str]:
    """What was measured, a line each."""
    lines = []
    if measured.difference is not None:
        lines.append(f"ONNX against torch: hidden states differ by {measured.difference:.1e} at most")
    if measured.loss is not None:
        loss = measured.loss
        score = ""
        if loss.spearman is not None:
            score = f"Spearman {loss.spearman[0]:.2f} -> {loss.spearman[1]:.2f}, "
        lines.append(
            f"int8 against float on {loss.data}: {score}cosine of embeddings {loss.cosine_mean:.4f} "
            f"(smallest {loss.cosine_min:.4f})"
        )
    if measured.seconds is not None:
        torch_seconds = measured.seconds["torch"]
        forms = ", ".join(
            f"{form} {1e3 * s:.1f} ms ({torch_seconds / s:.2f}x)" for form, s in measured.seconds.items()
        )
        lines.append(f"forward on one thread: {forms}")
    return lines


def _request(cfg: DictConfig) -> Request:
    values: Any = OmegaConf.to_container(cfg, resolve=False)
    settings = {key: value for key, value in values.items() if key not in _GROUPS}
    if isinstance(settings.get("to"), str):  # to=onnx is as clear as to=[onnx]
        settings["to"] = [settings["to"]]
    try:
        request: Request = config.from_values(Request, settings, "export")
    except LabError as error:
        # The settings stand at the top of this command's config.
        raise LabError(str(error).replace("export.", "").replace("export has", "there are")) from error
    return request
