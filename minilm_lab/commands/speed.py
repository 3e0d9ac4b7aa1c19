"""`minilm-lab speed`: the forward times of several models on this machine; and the speed run of a table."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from transformers import AutoModel
from transformers.utils import logging as transformers_logging

from minilm_lab import config
from minilm_lab.benchmarks import forward
from minilm_lab.benchmarks.forward import Subject, Timing
from minilm_lab.benchmarks.real_texts import training_texts
from minilm_lab.commands.parts import read_how
from minilm_lab.commands.speed_table import build
from minilm_lab.errors import LabError
from minilm_lab.exporting.facts import facts_of
from minilm_lab.models import sources
from minilm_lab.models.families import positions_of
from minilm_lab.models.resolve import resolve
from minilm_lab.models.speed import BATCH, LENGTH, ROUNDS, forward_seconds
from minilm_lab.models.student import Student
from minilm_lab.models.teacher import Teacher
from minilm_lab.reports.page import write_page
from minilm_lab.reports.renderers import print_table, write_files
from minilm_lab.runs.environment import hardware
from minilm_lab.runs.folder import RunFolder, execute
from minilm_lab.runs.identity import identity_of, slug
from minilm_lab.tasks.base import Examples, Task
from minilm_lab.training.devices import uses_gpu
from minilm_lab.training.loggers import close, finish
from minilm_lab.training.settings import How

#: Settings of `timing` that decide nothing that is measured (the models are told by what they are).
ASIDE = ("name", "notes", "models", "paper", "paper_source")


def timing_of(
    name: str, teacher: str, keys: Mapping[str, Any], runs: Path
) -> tuple[dict[str, Any], RunFolder]:
    """What is timed of a table's rows on this hardware, and the folder of that run.

    keys: row -> what identifies its model; teacher: the row that counts as 1.
    """
    what = {"rows": dict(keys), "teacher": teacher, "hardware": hardware(), "shape": [BATCH, LENGTH]}
    return what, RunFolder(runs, "speed", slug(name), identity_of("speed", what))


def measure(what: Mapping[str, Any], folder: RunFolder, models: Mapping[str, str], how: How) -> None:
    """Time the models of `timing_of` once. models: row -> folder or hub id."""

    def work(_: RunFolder) -> dict[str, Any]:
        device = torch.device("cuda" if uses_gpu(how.trainer.accelerator) else "cpu")
        if how.impl.threads is not None:
            torch.set_num_threads(how.impl.threads)
        # Rows with one shape take one time: measure each shape once.
        shapes: dict[str, Any] = {}
        row_shape: dict[str, str] = {}
        for row, source in models.items():
            model = AutoModel.from_pretrained(source, dtype=torch.float32)
            shape = f"{model.config.num_hidden_layers}x{model.config.hidden_size}x{model.config.intermediate_size}"
            row_shape[row] = shape
            shapes.setdefault(shape, model)
        seconds = forward_seconds(shapes, device)
        per_row = {row: seconds[shape] for row, shape in row_shape.items()}
        own = {
            "rows": what["rows"],
            "seconds": per_row,
            "ratio": {row: per_row[what["teacher"]] / value for row, value in per_row.items()},
            "note": f"median of {ROUNDS} float32 forwards of {BATCH} x {LENGTH} tokens on {device.type}",
        }
        about = {
            "identity": folder.identity,
            "command": "speed",
            "name": folder.name,
            "experiment": how.experiment,
        }
        try:
            finish(how.logger.build(folder.path, about), {}, record=own)
        finally:
            close()
        return own

    execute(folder, dict(what), how.plain(), work)


def run(cfg: DictConfig) -> None:
    """Entry point for Hydra."""
    how = read_how(cfg)
    timing: Timing = config.section(cfg, "timing")
    teacher: Teacher = config.section(cfg, "teacher")
    task: Task = config.section(cfg, "task")
    transformers_logging.disable_progress_bar()
    if how.impl.threads is not None:
        torch.set_num_threads(how.impl.threads)
    found = {name: _subject(name, timing, teacher, how) for name in timing.models}
    examples, data = training_texts(task, timing.texts, how.paths.hub, how.cache)
    examples = forward.sized(timing, examples)
    devices = _devices(how.trainer.accelerator)
    what = {
        "timing": {k: v for k, v in config.plain(timing).items() if k not in ASIDE},
        "models": [key for key, _, _ in found.values()],
        "texts": examples.texts,
        "devices": [device.type for device in devices],
        "threads": torch.get_num_threads(),
        "hardware": hardware(),
        "versions": {name: _version(name) for name in ("torch", "transformers", "onnxruntime")},
    }
    identity = identity_of("speed", what)
    folder = RunFolder(how.runs, "speed", slug("table4", timing.name), identity)
    work = partial(_measured, {n: s for n, (_, s, _) in found.items()}, examples, timing, devices)
    parameters = {name: facts["parameters"] for name, (_, _, facts) in found.items()}
    told = {**what, "texts": f"{len(examples)} from the {data}"}
    about = {
        "timing": config.plain(timing),
        "parameters": parameters,
        "threads": what["threads"],
        "data_note": data,
    }
    record = execute(folder, told, how.plain(), lambda _: {**about, **work()})
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


def _measured(
    subjects: Mapping[str, Subject], examples: Examples, timing: Timing, devices: list[torch.device]
) -> dict[str, Any]:
    return forward.measure(subjects, examples, timing, devices)


def _devices(accelerator: str) -> list[torch.device]:
    gpu = [torch.device("cuda")] if uses_gpu(accelerator) else []
    return gpu if accelerator == "gpu" else [torch.device("cpu"), *gpu]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _subject(
    name: str, timing: Timing, teacher: Teacher, how: How
) -> tuple[dict[str, Any], Subject, dict[str, Any]]:
    """What identifies a model of `timing.models`, how it is loaded, and its facts; no weights are read."""
    shape = forward.shape_of(name)
    if shape is not None:
        own = teacher.config(how.cache)
        model = Student(name=name, layers=shape[0], hidden_size=shape[1]).config(own)
        key: dict[str, Any] = {
            "shape": list(shape),
            "family": str(own.model_type),
            "vocabulary": own.vocab_size,
        }
        load: Any = partial(AutoModel.from_config, model, dtype=torch.float32)
        tokenizer = teacher.tokenizer(how.cache)
    elif name == "teacher":
        key, model = {"teacher": teacher.identity(how.cache)}, teacher.config(how.cache)
        load, tokenizer = partial(teacher.body, how.cache), teacher.tokenizer(how.cache)
    else:
        found = resolve(name, runs=how.runs, cache=how.cache, key="timing.models")
        key, place = found.identity, (found.where, found.revision, "timing.models")
        model = sources.load_config(*place)
        load = partial(sources.load_body, *place)
        tokenizer = sources.load_tokenizer(*place)
    if timing.length > positions_of(model):
        raise LabError(
            f"timing.length={timing.length} is beyond the {positions_of(model)} positions of {name}; give less"
        )
    return key, Subject(load, tokenizer), facts_of(model)
