"""`minilm-lab distill`: distil a teacher into a student, once; the next time it answers from the record."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from minilm_lab import config
from minilm_lab.commands.parts import read_how, read_seed, scale_of
from minilm_lab.errors import LabError
from minilm_lab.models.families import positions_of
from minilm_lab.models.student import Student
from minilm_lab.models.teacher import Teacher
from minilm_lab.objectives.base import Objective
from minilm_lab.runs.folder import RunFolder, execute
from minilm_lab.runs.identity import identity_of, slug
from minilm_lab.training.distillation import Distillation
from minilm_lab.training.fit import micro_batch
from minilm_lab.training.settings import Optim

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DistillPlan:
    """A checked distillation and the run that keeps it; no model is loaded yet."""

    job: Distillation
    what: dict[str, Any]
    folder: RunFolder


def plan(cfg: DictConfig) -> DistillPlan:
    """Check the config as far as that is possible without loading a model, and name the run."""
    how = read_how(cfg)
    teacher: Teacher = config.build(cfg.teacher, "teacher")
    student: Student = config.build(cfg.student, "student")
    objective: Objective = config.build(cfg.objective, "objective")
    corpus = config.build(cfg.corpus, "corpus")
    optim: Optim = config.build(cfg.optim, "optim")
    scale, seed = scale_of(cfg), read_seed(cfg)

    teacher_config = teacher.config(how.cache)
    distilled = teacher.distilled_layer(teacher_config)
    student.copied_layers(student.shape(teacher_config)["layers"], distilled)
    objective.check(student.config(teacher_config), teacher_config)
    objective = objective.resolve(teacher_config)
    if objective.trains:
        micro_batch(scale.batch_size, how.trainer, "scale.batch_size")
    limit = positions_of(teacher_config)
    if scale.length > limit:
        raise LabError(f"scale.length={scale.length} is beyond the {limit} positions of {teacher.name}")

    what: dict[str, Any] = {
        "teacher": teacher.identity(how.cache),
        "student": student.identity(teacher_config),
        "objective": objective.identity(),
        "seed": seed,
    }
    if objective.trains:
        fields = {k: v for k, v in config.plain(corpus).items() if k not in ("name", "path")}
        what["corpus"] = {**fields, "fingerprint": corpus.fingerprint(how.paths.hub, how.cache)}
        what["optim"] = config.plain(optim)
        what["scale"] = {n: getattr(scale, n) for n in ("steps", "batch_size", "length")}
    shape = what["student"]
    name = slug(
        teacher.name,
        f"l{shape['layers']}_h{shape['hidden_size']}",
        objective.label(),
        corpus.name if objective.trains else "",
        scale.name if objective.trains else "",
    )
    folder = RunFolder(how.runs, "distill", name, identity_of("distill", what))
    job = Distillation(teacher, student, objective, corpus, optim, scale, seed, how)
    return DistillPlan(job, what, folder)


def distill(ready: DistillPlan) -> dict[str, Any]:
    """Return the record of the run, distilling first if there is none."""
    return execute(ready.folder, ready.what, ready.job.how.plain(), ready.job.train)


def run(cfg: DictConfig) -> float:
    """Entry point for Hydra; returns the held-out loss, for sweepers that minimise."""
    ready = plan(cfg)
    before = ready.folder.result()
    record = distill(ready)
    known = " (from its record)" if before is not None else ""
    losses = record.get("held_out_loss") or {}
    told = f"held-out loss {losses['first']:.4f} -> {losses['last']:.4f}, " if losses else ""
    print(f"{told}{record['parameters']['total'] / 1e6:.1f} M parameters{known}")
    print(f"student: {ready.folder.path / 'student'}")
    return float(losses.get("last", 0.0))
