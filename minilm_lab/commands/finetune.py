"""`minilm-lab finetune`: score a student (made first if need be), the teacher, or any checkpoint on a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from minilm_lab import config
from minilm_lab.commands.distill import distill
from minilm_lab.commands.distill import plan as plan_distill
from minilm_lab.commands.parts import read_how, scale_of
from minilm_lab.models import sources
from minilm_lab.models.families import positions_of
from minilm_lab.models.saving import add_score
from minilm_lab.models.teacher import Teacher
from minilm_lab.errors import LabError
from minilm_lab.runs.folder import RunFolder, execute
from minilm_lab.runs.identity import identity_of, slug
from minilm_lab.tasks.base import Task
from minilm_lab.training.finetuning import Finetuning
from minilm_lab.training.settings import How, Tune


def finetune(cfg: DictConfig) -> tuple[RunFolder, dict[str, Any]]:
    """Return the run's folder and record, doing what is missing: first the student, then the fine-tuning."""
    how = read_how(cfg)
    task: Task = config.build(cfg.task, "task")
    tune: Tune = config.build(cfg.tune, "tune")
    epochs = scale_of(cfg).epochs
    splits = task.load(how.paths.hub, how.cache)

    student: RunFolder | None = None
    revision = None
    if cfg.source is None:
        ready = plan_distill(cfg)
        _check_length(task, ready.job.teacher, how)
        record = distill(ready)
        student = ready.folder
        where = str(student.path / "student")
        origin = {"kind": "run", "run": student.identity, "config": ready.what}
        names, key = record["names"], {"run": student.identity}
        title = student.name
    elif cfg.source == "teacher":
        teacher: Teacher = config.build(cfg.teacher, "teacher")
        _check_length(task, teacher, how)
        where, revision = teacher.locate(how.cache), teacher.revision
        what = {k: v for k, v in teacher.identity(how.cache).items() if k != "layer"}
        origin = {"kind": "teacher", "run": None, "config": {"teacher": what}}
        names, key, title = {"teacher": teacher.name}, {"teacher": what}, f"{teacher.name}-teacher"
    else:
        where, key = _elsewhere(str(cfg.source))
        origin = {"kind": "path", "run": None, "config": key}
        names = {"source": str(cfg.source)}
        title = Path(str(cfg.source)).name

    fields = {k: v for k, v in config.plain(task).items() if k not in ("name", "path", "official")}
    what_tuned = {
        "source": key,
        "task": {**fields, "fingerprint": splits.checksum()},
        "tune": {k: v for k, v in config.plain(tune).items() if k != "save_model"},
        "epochs": epochs,
    }
    name = slug(task.name, title, f"s{tune.seed}")
    folder = RunFolder(how.runs, "finetune", name, identity_of("finetune", what_tuned))
    job = Finetuning(where, revision, origin, names, task, splits, tune, epochs, how)
    record = execute(folder, what_tuned, how.plain(), job.train)
    if student is not None:
        for metric, value in record["scores"].items():
            row = (task.name, metric, f"{value:.1f}", tune.seed, record["data_note"] or "full")
            add_score(student.path / "student", row)
    return folder, record


def _check_length(task: Task, teacher: Teacher, how: How) -> None:
    limit = positions_of(teacher.config(how.cache))
    if task.length > limit:
        raise LabError(f"task.length={task.length} is beyond the {limit} positions of {teacher.name}")


def _elsewhere(source: str) -> tuple[str, dict[str, Any]]:
    folder = Path(source).expanduser()
    if folder.exists() or source.startswith((".", "/", "~")):
        sources.check_folder(folder, "source")
        return str(folder), {"folder": sources.folder_checksum(folder)}
    sources.load_config(source, None, "source")
    return source, {"hub": source}


def run(cfg: DictConfig) -> float:
    """Entry point for Hydra; returns the score, for sweepers that maximise."""
    folder, record = finetune(cfg)
    scores = ", ".join(f"{name} {value:.2f}" for name, value in record["scores"].items())
    note = f" ({record['data_note']})" if record["data_note"] else ""
    print(f"{record['names']['task']}: {scores}{note}")
    print(f"record: {folder.path / 'result.json'}")
    return float(record["score"]["value"])
