"""`minilm-lab speed`: the forward times of several models on this machine."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import torch
from omegaconf import DictConfig
from transformers.utils import logging as transformers_logging

from minilm_lab import config
from minilm_lab.benchmarks import forward
from minilm_lab.benchmarks.forward import Timing
from minilm_lab.benchmarks.forward_table import build
from minilm_lab.benchmarks.real_texts import training_texts
from minilm_lab.benchmarks.subjects import subject_of
from minilm_lab.commands.parts import read_how
from minilm_lab.models.teacher import Teacher
from minilm_lab.reports.page import write_page
from minilm_lab.reports.renderers import print_table, write_files
from minilm_lab.runs.environment import hardware
from minilm_lab.runs.folder import RunFolder, execute
from minilm_lab.runs.identity import identity_of, slug
from minilm_lab.tasks.base import Task
from minilm_lab.training.devices import uses_gpu

#: Settings of `timing` that decide nothing that is measured (the models are told by what they are).
ASIDE = ("name", "notes", "models", "paper", "paper_source")


def run(cfg: DictConfig) -> None:
    """Entry point for Hydra."""
    how = read_how(cfg)
    timing: Timing = config.section(cfg, "timing")
    teacher: Teacher = config.section(cfg, "teacher")
    task: Task = config.section(cfg, "task")
    transformers_logging.disable_progress_bar()
    if how.impl.threads is not None:
        torch.set_num_threads(how.impl.threads)
    subjects = {name: subject_of(name, timing.length, teacher, how.runs, how.cache) for name in timing.models}
    texts, data = training_texts(task, timing.texts, how.paths.hub, how.cache)
    devices = _devices(how.trainer.accelerator)
    what = {
        "timing": {k: v for k, v in config.plain(timing).items() if k not in ASIDE},
        "models": [subject.key for subject in subjects.values()],
        "texts": texts,
        "devices": [device.type for device in devices],
        "threads": torch.get_num_threads(),
        "hardware": hardware(),
        "versions": {name: _version(name) for name in ("torch", "transformers", "onnxruntime")},
    }
    identity = identity_of("speed", what)
    folder = RunFolder(how.runs, "speed", slug("table4", timing.name), identity)
    shown = {**what, "texts": f"{len(texts)} from the {data}"}
    about = {
        "timing": config.plain(timing),
        "parameters": {name: subject.parameters for name, subject in subjects.items()},
        "threads": what["threads"],
        "data_note": data,
    }
    record = execute(
        folder, shown, how.plain(), lambda _: {**about, **forward.measure(subjects, texts, timing, devices)}
    )
    made = build({**record, "timing": config.plain(timing)})
    out = Path(cfg.out) if cfg.out else folder.path / "table"
    write_files(made, out)
    write_page(out / "index.html", made.title, _INTRO, made)
    print_table(made)
    print(f"files: {out.resolve()}\nrecord: {folder.path / 'result.json'}")


_INTRO = (
    "How large each model is and how long a forward takes. All models and backends took turns on the same batches in "
    "one process, so that whatever else the machine did slowed all of them alike."
)


def _devices(accelerator: str) -> list[torch.device]:
    gpu = [torch.device("cuda")] if uses_gpu(accelerator) else []
    return gpu if accelerator == "gpu" else [torch.device("cpu"), *gpu]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
