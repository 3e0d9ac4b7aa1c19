"""What a table's runs are expected to cost, before they run: floating-point operations, and time at a known speed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers import PretrainedConfig

from minilm_lab.commands.distill import DistillPlan
from minilm_lab.commands.finetune import FinetunePlan
from minilm_lab.commands.pretrain import PretrainPlan
from minilm_lab.commands.tables.planning import Job
from minilm_lab.models import sources
from minilm_lab.models.families import ffn_of
from minilm_lab.tasks.base import Examples

#: Backward costs twice a forward.
TRAINING = 3
#: Characters of a token of English text in a WordPiece vocabulary, about.
CHARACTERS = 4.2
#: Share of a matrix product's speed that a training step here reaches, about (`minilm-lab bench`: 0.57 to 0.62).
UTILISATION = 0.5
#: A card for comparison: 312 TFLOP/s of an A100 in bf16, at 40 %.
CARD = 0.4 * 312e12


def forward(model: PretrainedConfig, layers: int, length: float) -> float:
    """Floating-point operations of a forward pass through `layers` layers, a token of a text of `length` tokens."""
    hidden, ffn = int(model.hidden_size), ffn_of(model)
    return float(layers * (8 * hidden**2 + 4 * hidden * ffn + 4 * length * hidden))


def operations(plan: Any) -> float:
    """Floating-point operations of a run, about: layers alone, without embeddings, heads and the loss."""
    if isinstance(plan, DistillPlan):
        return _distillation(plan)
    if isinstance(plan, PretrainPlan):
        job = plan.job
        model = job.teacher.config(job.how.cache)
        tokens = job.scale.steps * job.scale.batch_size * job.scale.length
        return tokens * forward(model, model.num_hidden_layers, job.scale.length)
    assert isinstance(plan, FinetunePlan)
    return _finetuning(plan)


def _distillation(plan: DistillPlan) -> float:
    job = plan.job
    if not job.objective.trains:
        return 0.0
    teacher = job.teacher.config(job.how.cache)
    student = job.student.config(teacher)
    length = job.scale.length
    taught = forward(teacher, job.teacher.distilled_layer(teacher), length)
    learned = TRAINING * forward(student, student.num_hidden_layers, length)
    return job.scale.steps * job.scale.batch_size * length * (taught + learned)


def _finetuning(plan: FinetunePlan) -> float:
    job = plan.job
    if plan.distillation is not None:
        first = plan.distillation.job
        model = first.student.config(first.teacher.config(first.how.cache))
    else:
        model = sources.load_config(job.source, job.revision, "source")
    layers, splits = model.num_hidden_layers, job.splits
    total = 0.0
    passes = [
        (splits.train, TRAINING * job.epochs),
        (splits.dev, 1),
        *((e, 1) for e in splits.extra.values()),
    ]
    for examples, times in passes:
        length = _tokens(examples, job.task.length)
        total += times * len(examples) * length * forward(model, layers, length)
    return total


def _tokens(examples: Examples, longest: int) -> float:
    """Tokens of an example, on average, from its characters."""
    some = examples.texts[:500]
    lengths = [min(longest, (len(a) + len(b or "")) / CHARACTERS + 3) for a, b in some]
    return sum(lengths) / max(1, len(lengths))


def describe(jobs: Sequence[Job]) -> str:
    """One or two lines: how much is to do, and how long it takes at the speed of what is done, or of this machine."""
    todo = [job for job in jobs if job.folder.result() is None]
    ahead = sum(operations(job.plan) for job in todo)
    done = len(jobs) - len(todo)
    if not todo:
        return f"all {done} runs are done"
    speed, source = _speed(job for job in jobs if job.folder.result() is not None)
    return (
        f"{len(todo)} runs to do, {done} done. About {_size(ahead)} (layers alone): "
        f"{_time(ahead / speed)} {source}, {_time(ahead / CARD)} on an A100 at 40 %"
    )


def _speed(done: Iterable[Job]) -> tuple[float, str]:
    """Operations a second, and where that comes from."""
    work = seconds = 0.0
    count = 0
    for job in done:
        record = job.folder.result() or {}
        took = record.get("wall_clock_s")
        if isinstance(took, (int, float)) and took > 0 and (operation := operations(job.plan)) > 0:
            work, seconds, count = work + operation, seconds + took, count + 1
    if count:
        return work / seconds, f"at the speed of the {count} runs of this table that are done"
    return UTILISATION * _matrix_speed(), "at half the speed of a matrix product on this machine"


def _matrix_speed() -> float:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = 4096 if device.type == "cuda" else 768
    a = torch.randn(size, size, device=device)
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        (a @ a).sum().item()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _size(operations: float) -> str:
    return f"{operations / 1e15:,.3g} PFLOP" if operations >= 1e14 else f"{operations / 1e12:.3g} TFLOP"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.0f} days"
