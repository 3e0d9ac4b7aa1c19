"""`minilm-lab distill`: distil a teacher into a student, once; the next time it answers from the record."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from omegaconf import DictConfig

from minilm_lab import config
from minilm_lab.commands import pretrain as pretraining
from minilm_lab.commands.parts import check_length, corpus_identity, read_how, read_seed, scale_of
from minilm_lab.commands.pretrain import PretrainPlan
from minilm_lab.models.assistant import Assistant, AssistantTeacher
from minilm_lab.models.families import positions_of
from minilm_lab.models.student import Student
from minilm_lab.models.teacher import Teacher
from minilm_lab.objectives.base import Objective
from minilm_lab.probes.base import Probe
from minilm_lab.runs.folder import RunFolder, execute
from minilm_lab.runs.identity import identity_of, slug
from minilm_lab.training.distillation import Distillation
from minilm_lab.training.fit import micro_batch
from minilm_lab.training.settings import How, Optim

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DistillPlan:
    """A checked distillation and the run that keeps it; no model is loaded yet."""

    job: Distillation
    what: dict[str, Any]
    folder: RunFolder
    assistant: DistillPlan | None = None
    """The distillation that makes its teacher, where that is a teacher assistant."""
    head: PretrainPlan | None = None
    """The training of its teacher's masked-LM head, where it reads one of the lab's making."""


def plan(cfg: DictConfig) -> DistillPlan:
    """Check the config as far as that is possible without loading a model, and name the run."""
    how = read_how(cfg)
    teacher: Teacher = config.section(cfg, "teacher")
    student: Student = config.section(cfg, "student")
    assistant: Assistant = config.section(cfg, "assistant")
    config.section(cfg, "head")
    teacher_config = teacher.config(how.cache)
    objective: Objective = config.section(cfg, "objective")
    before: DistillPlan | None = None
    if objective.trains:
        for size in assistant.students(student, teacher_config):
            before = _plan_one(cfg, how, _as_teacher(before) or teacher, size, before)
    if before is not None:
        student = student.absolute(teacher_config)
    return _plan_one(cfg, how, _as_teacher(before) or teacher, student, before)


def _as_teacher(made: DistillPlan | None) -> AssistantTeacher | None:
    if made is None:
        return None
    job = made.job
    original = job.teacher.original if isinstance(job.teacher, AssistantTeacher) else job.teacher
    size = made.what["student"]
    return AssistantTeacher(
        name=f"{original.name}-ta_l{size['layers']}_h{size['hidden_size']}",
        path=str(made.folder.path / "student"),
        run=made.folder.identity,
        planned=job.student.config(job.teacher.config(job.how.cache)),
        original=original,
        rotary=original.rotary,
        grouped=original.grouped,
    )


def _plan_one(
    cfg: DictConfig, how: How, teacher: Teacher, student: Student, before: DistillPlan | None
) -> DistillPlan:
    objective: Objective = config.section(cfg, "objective")
    corpus = config.section(cfg, "corpus")
    optim: Optim = config.section(cfg, "optim")
    scale, seed = scale_of(cfg), read_seed(cfg)

    teacher_config = teacher.config(how.cache)
    distilled = teacher.distilled_layer(teacher_config)
    student.copied_layers(student.shape(teacher_config)["layers"], distilled)
    student_config = student.config(teacher_config)
    probe: Probe = config.section(cfg, "probe")
    job = Distillation(teacher, student, objective, corpus, optim, scale, seed, how, probe)
    loss = job.loss
    if objective.trains:
        micro_batch(scale.batch_size, how.trainer, "scale.batch_size")
    limit = positions_of(teacher_config)
    check_length(scale, teacher, limit)
    head: PretrainPlan | None = None
    # An assistant that was distilled with logits has a head of its own.
    if before is None and config.section(cfg, "head").train and loss.reads[1].logits:
        head = pretraining.plan(cfg)

    what: dict[str, Any] = {
        "teacher": teacher.identity(how.cache),
        "student": student.identity(teacher_config),
        "objective": loss.identity(),
        "seed": seed,
    }
    if head is not None:
        what["head"] = {"run": head.folder.identity}
    if objective.trains:
        what["corpus"] = corpus_identity(corpus, how)
        what["optim"] = config.plain(optim)
        what["scale"] = {n: getattr(scale, n) for n in ("steps", "batch_size", "length")}
    shape = what["student"]
    name = slug(
        teacher.name,
        f"l{shape['layers']}_h{shape['hidden_size']}",
        loss.label(),
        corpus.name if objective.trains else "",
        scale.name if objective.trains else "",
    )
    folder = RunFolder(how.runs, "distill", name, identity_of("distill", what))
    probe.check(limit, int(student_config.num_hidden_layers))
    if head is not None:
        job = replace(job, head=head.product)
    return DistillPlan(job, what, folder, before, head)


def distill(ready: DistillPlan) -> dict[str, Any]:
    """Return the record of the run, doing what is missing: first its teacher assistants and its teacher's head."""
    if ready.folder.result() is None:
        if ready.assistant is not None:
            distill(ready.assistant)
        if ready.head is not None:
            ready.head.make()
    return execute(ready.folder, ready.what, ready.job.how.plain(), ready.job.train)


@dataclass(frozen=True)
class Step:
    """One of the runs that make a student."""

    folder: RunFolder
    make: Callable[[], Any]
    """Does it, once the steps before it are done."""
    plan: DistillPlan | PretrainPlan


def steps(ready: DistillPlan) -> list[Step]:
    """Everything that `distill` makes, in order: assistants, the teacher's head, the student itself."""
    before = steps(ready.assistant) if ready.assistant is not None else []
    head = [Step(ready.head.folder, ready.head.make, ready.head)] if ready.head is not None else []
    return [*before, *head, Step(ready.folder, partial(distill, ready), ready)]


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
