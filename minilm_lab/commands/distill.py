"""`minilm-lab distill`: distil a teacher into a student, once; the next time it answers from the record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from minilm_lab import config
from minilm_lab.commands import pretrain
from minilm_lab.commands.parts import check_length, corpus_identity, read_how, read_seed, scale_of
from minilm_lab.errors import LabError
from minilm_lab.evaluation.base import Evaluator
from minilm_lab.models import cost
from minilm_lab.models.assistant import Assistant, AssistantTeacher
from minilm_lab.models.families import positions_of
from minilm_lab.models.student import Student
from minilm_lab.models.teacher import Teacher
from minilm_lab.objectives.base import Objective
from minilm_lab.runs.graph import Run
from minilm_lab.runs.identity import slug
from minilm_lab.training.distillation import Distillation
from minilm_lab.training.settings import How, Optim, micro_batch


def plan(cfg: DictConfig) -> Run:
    """Check the config as far as that is possible without loading a model; name the run and those it starts from."""
    how = read_how(cfg)
    teacher: Teacher = config.section(cfg, "teacher")
    student: Student = config.section(cfg, "student")
    assistant: Assistant = config.section(cfg, "assistant")
    objective: Objective = config.section(cfg, "objective")
    config.section(cfg, "head")
    original = teacher.config(how.cache)
    chain = assistant.students(student, original) if objective.trains else []
    run: Run | None = None
    for size in [*chain, student.absolute(original) if chain else student]:
        run = _plan_one(cfg, how, teacher if run is None else _as_teacher(run), size, run)
    assert run is not None
    return run


def _as_teacher(run: Run) -> AssistantTeacher:
    job: Distillation = run.job
    original = job.teacher.original if isinstance(job.teacher, AssistantTeacher) else job.teacher
    size = run.what["student"]
    return AssistantTeacher(
        name=f"{original.name}-ta_l{size['layers']}_h{size['hidden_size']}",
        path=str(run.folder.path / "student"),
        run=run.identity,
        planned=job.student.config(job.teacher.config(job.how.cache)),
        original=original,
        rotary=original.rotary,
        grouped=original.grouped,
    )


def _plan_one(cfg: DictConfig, how: How, teacher: Teacher, student: Student, assistant: Run | None) -> Run:
    """One distillation of a chain; `assistant` made its teacher."""
    objective: Objective = config.section(cfg, "objective")
    corpus = config.section(cfg, "corpus")
    optim: Optim = config.section(cfg, "optim")
    scale, seed = scale_of(cfg), read_seed(cfg)

    teacher_config = teacher.config(how.cache)
    distilled = teacher.distilled_layer(teacher_config)
    student.copied_layers(student.shape(teacher_config)["layers"], distilled)
    student_config = student.config(teacher_config)
    evaluator: Evaluator = config.section(cfg, "evaluator")
    job = Distillation(teacher, student, objective, corpus, optim, scale, seed, how, evaluator)
    loss = job.loss
    if objective.trains:
        micro_batch(scale.batch_size, how.trainer, "scale.batch_size")
    if loss.on_policy is not None and loss.on_policy.prompt >= scale.length:
        raise LabError(
            f"objective.prompt={loss.on_policy.prompt} leaves the student nothing to write in blocks of {scale.length} tokens; "
            "give less, or more of scale.length"
        )
    limit = positions_of(teacher_config)
    check_length(scale, teacher, limit)
    head: Run | None = None
    # An assistant that was distilled with logits has a head of its own.
    if assistant is None and config.section(cfg, "head").train and loss.reads[1].logits:
        head = pretrain.plan(cfg)

    shape = student.identity(teacher_config)
    what: dict[str, Any] = {
        "teacher": teacher.identity(how.cache),
        "student": shape,
        "objective": loss.identity(),
        "seed": seed,
    }
    if head is not None:
        what["head"] = {"run": head.identity}
    if objective.trains or student.init.measured:  # on whose held-out text
        what["corpus"] = corpus_identity(corpus, how)
    if objective.trains:
        what["optim"] = optim.identity()
        what["scale"] = {n: getattr(scale, n) for n in ("steps", "batch_size", "length")}
    elif student.init.measured:
        what["scale"] = {"length": scale.length}
    name = slug(
        teacher.name,
        f"l{shape['layers']}_h{shape['hidden_size']}",
        loss.label(),
        corpus.name if objective.trains else "",
        scale.name if objective.trains else "",
    )
    if evaluator.takes == "language_model":
        raise LabError(
            "this evaluator takes a finished causal model with its head, not a body that is being distilled: "
            "minilm-lab evaluate source=<run> evaluator=…"
        )
    evaluator.check(student_config)
    if head is not None:
        job = replace(job, head=head.folder.path / "model")

    def operations() -> float:
        blocks = scale.steps * scale.batch_size if objective.trains else 0
        taught = cost.of_blocks(teacher_config, blocks, scale.length, distilled)
        return taught + cost.of_blocks(student_config, blocks, scale.length, training=True)

    inputs = tuple(needed for needed in (assistant, head) if needed is not None)
    return Run("distill", name, what, job, operations, inputs)


def run(cfg: DictConfig) -> float:
    """Entry point for Hydra; returns the held-out loss, for sweepers that minimise."""
    planned = plan(cfg)
    known = " (from its record)" if planned.done else ""
    record = planned.make()
    losses = record.get("held_out_loss") or {}
    change = f"held-out loss {losses['first']:.4f} -> {losses['last']:.4f}, " if losses else ""
    print(f"{change}{record['parameters']['total'] / 1e6:.1f} M parameters{known}")
    print(f"student: {planned.folder.path / 'student'}")
    return float(losses.get("last", 0.0))
