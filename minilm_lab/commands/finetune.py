"""`minilm-lab finetune`: score a student (made first if need be), the teacher, or any checkpoint on a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from transformers import PretrainedConfig

from minilm_lab import config
from minilm_lab.commands.distill import DistillPlan, distill
from minilm_lab.commands.distill import plan as plan_distill
from minilm_lab.commands.parts import read_how, scale_of
from minilm_lab.errors import LabError
from minilm_lab.models import sources
from minilm_lab.models.families import positions_of
from minilm_lab.models.saving import add_score
from minilm_lab.models.teacher import Teacher
from minilm_lab.paths import is_there
from minilm_lab.runs.folder import RunFolder, execute
from minilm_lab.runs.identity import identity_of, slug
from minilm_lab.tasks.base import Splits, Task
from minilm_lab.training.finetuning import Finetuning
from minilm_lab.training.fit import micro_batch
from minilm_lab.training.loggers import answer_sweep
from minilm_lab.training.settings import Tune


@dataclass(frozen=True)
class FinetunePlan:
    """A checked fine-tuning, the run that keeps it, and the distillation it needs first, if any."""

    job: Finetuning
    what: dict[str, Any]
    folder: RunFolder
    distillation: DistillPlan | None


def plan(cfg: DictConfig) -> FinetunePlan:
    """Check the config, read the task's data and name the runs; no model is loaded."""
    tune: Tune = config.section(cfg, "tune")
    return plan_seeds(cfg, [tune.seed], {})[0]


def plan_seeds(
    cfg: DictConfig, seeds: Sequence[int], known: dict[str, tuple[Splits, str]]
) -> list[FinetunePlan]:
    """The same for each of several seeds in place of tune.seed, all read and checked once.

    known: the data of tasks that were read before and its checksum, by their settings; what is read now is added.
    """
    how = read_how(cfg)
    task: Task = config.section(cfg, "task")
    tune: Tune = config.section(cfg, "tune")
    scale = scale_of(cfg)
    micro_batch(tune.batch_size, how.trainer, "tune.batch_size")
    first: DistillPlan | None = None
    revision: str | None = None
    key: dict[str, Any]
    origin: dict[str, Any]
    source = cfg.get("source")
    if source is None:
        first = plan_distill(cfg)
        _check_length(task, first.job.teacher.config(how.cache), first.job.teacher.name)
        where = str(first.folder.path / "student")
        origin = {"kind": "run", "run": first.folder.identity, "config": first.what}
        names, key, title = first.job.names(), {"run": first.folder.identity}, first.folder.name
    elif source == "teacher":
        teacher: Teacher = config.section(cfg, "teacher")
        _check_length(task, teacher.config(how.cache), teacher.name)
        where, revision = teacher.locate(how.cache), teacher.revision
        model = {k: v for k, v in teacher.identity(how.cache).items() if k != "layer"}
        origin = {"kind": "teacher", "run": None, "config": {"teacher": model}}
        names, key, title = {"teacher": teacher.name}, {"teacher": model}, f"{teacher.name}-teacher"
    else:
        where, key = _elsewhere(str(source))
        _check_length(task, sources.load_config(where, None, "source"), str(source))
        origin = {"kind": "path", "run": None, "config": key}
        names, title = {"source": str(source)}, Path(str(source)).name

    settings = repr(task)
    if settings not in known:
        read = task.load(how.paths.hub, how.cache)
        known[settings] = (read, read.checksum())
    splits, checksum = known[settings]
    shared = {
        "source": key,
        "task": {**task.identity(), "fingerprint": checksum},
        "tune": {k: v for k, v in config.plain(tune).items() if k not in ("save_model", "seed")},
        "epochs": scale.epochs,
    }
    made = []
    for seed in seeds:
        what = {**shared, "seed": seed}
        name = slug(task.name, title, f"s{seed}")
        folder = RunFolder(how.runs, "finetune", name, identity_of("finetune", what))
        seeded = replace(tune, seed=seed)
        job = Finetuning(where, revision, origin, names, task, splits, seeded, scale.epochs, how)
        made.append(FinetunePlan(job, what, folder, first))
    return made


def finetune(ready: FinetunePlan) -> dict[str, Any]:
    """Return the record of the run, doing what is missing: first the student, then the fine-tuning."""
    student = None
    if ready.distillation is not None:
        distill(ready.distillation)
        student = ready.distillation.folder.path / "student"
    record = execute(ready.folder, ready.what, ready.job.how.plain(), ready.job.train)
    if student is not None:
        for metric, value in record["scores"].items():
            note = record["data_note"] or "full"
            add_score(student, (ready.job.task.name, metric, f"{value:.1f}", ready.job.tune.seed, note))
    return record


def _check_length(task: Task, model: PretrainedConfig, name: str) -> None:
    limit = positions_of(model)
    if task.length > limit:
        raise LabError(
            f"task.length={task.length} is beyond the {limit} positions of {name}; give {limit} or less"
        )


def _elsewhere(source: str) -> tuple[str, dict[str, Any]]:
    folder = Path(source).expanduser()
    if is_there(folder) or source.startswith((".", "/", "~")):
        sources.check_folder(folder, "source")
        return str(folder), {"folder": sources.folder_checksum(folder)}
    sources.load_config(source, None, "source")
    return source, {"hub": source}


def run(cfg: DictConfig) -> float:
    """Entry point for Hydra; returns the score, for sweepers that maximise."""
    ready = plan(cfg)
    known = ready.folder.result() is not None
    record = finetune(ready)
    if known:
        answer_sweep("score", float(record["score"]["value"]))
    scores = ", ".join(f"{name} {value:.2f}" for name, value in record["scores"].items())
    note = f" ({record['data_note']})" if record["data_note"] else ""
    print(f"{record['names']['task']}: {scores}{note}")
    print(f"record: {ready.folder.path / 'result.json'}")
    return float(record["score"]["value"])
