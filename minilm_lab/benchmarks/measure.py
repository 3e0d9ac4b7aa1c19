"""Measure steps, parts, memory and growth; every comparison is interleaved within one process."""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm
from transformers import PreTrainedModel

from minilm_lab.benchmarks.machine import matrix_rate, peak_bytes
from minilm_lab.benchmarks.published import materialised_loss
from minilm_lab.benchmarks.step import PARTS, RELATIONS, Shape, Step, Stopped, Variant
from minilm_lab.benchmarks.text import random_blocks
from minilm_lab.data import loader
from minilm_lab.models.taps import Projections
from minilm_lab.relations import relation_kls


@dataclass(frozen=True)
class Models:
    """The pair whose step is measured."""

    teacher: PreTrainedModel
    student: PreTrainedModel
    layer: int
    vocabulary: int


@dataclass
class Measurement:
    """One variant at one shape; times are medians in seconds."""

    shape: Shape
    variant: str
    seconds: float
    parts: dict[str, float]
    tokens_per_second: float
    times_published: float | None
    """published's seconds / this variant's, in the same rounds."""
    utilisation: float
    """Useful operations a second / the matrix rate measured on the spot for the variant's precision."""
    step_bytes: int
    """Peak memory of a step beyond weights and optimizer state (CPU: resident memory, ± allocator)."""


@dataclass
class Growth:
    """The loss alone (forward and gradient) at one length and number of heads."""

    length: int
    heads: int
    variant: str
    seconds: float
    loss_bytes: int


@dataclass
class Report:
    """Everything a run of the benchmark found."""

    device: str
    rates: dict[str, float]
    steps: list[Measurement] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)


def rates(device: torch.device) -> dict[str, float]:
    """Matrix-product rate of float32 and bf16, in operations a second."""
    return {"float32": matrix_rate(torch.float32, device), "bf16": matrix_rate(torch.bfloat16, device)}


def useful_operations(models: Models, shape: Shape) -> int:
    """Operations of a step that stops at Q, K, V: teacher forward, student forward and backward, relations."""
    ids = torch.ones(1, shape.length, dtype=torch.int64)
    models.student.set_attn_implementation("eager")  # the counter knows plain products on every device
    teacher, student = (
        Stopped(models.teacher, models.layer),
        Stopped(models.student, _depth(models)),
    )
    kernel = models.teacher.config._attn_implementation
    models.teacher.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        with torch.no_grad():
            target = teacher(ids)
        projections = student(ids)
        pairs = [((s, s), (t, t), shape.heads) for s, t in zip(projections, target, strict=True)]
        relation_kls(pairs, backend="reference").sum().backward()
    models.teacher.set_attn_implementation(kernel)
    models.student.zero_grad()
    return counter.get_total_flops() * shape.batch


def _depth(models: Models) -> int:
    return int(models.student.config.num_hidden_layers)


def measure_steps(
    models: Models, shapes: Sequence[Shape], variants: Sequence[Variant], rounds: int, report: Report
) -> Iterable[Measurement]:
    """Yield a measurement for each shape and variant. The first round warms up and is not counted."""
    device = torch.device(report.device)
    for shape in shapes:
        steps = {
            v.name: Step(v, models.teacher, models.student, models.layer, shape, device) for v in variants
        }
        operations = useful_operations(models, shape)
        with tempfile.TemporaryDirectory() as folder:
            blocks = random_blocks(Path(folder) / "blocks", models.vocabulary, shape.length, 64 * shape.batch)
            pinned = device.type == "cuda"
            stream = iter(loader(blocks, seed=0, batch_size=shape.batch, first_sample=0, pin_memory=pinned))
            yield from _measure_shape(models, shape, steps, variants, rounds, report, stream, operations)
        del steps
        gc.collect()


def _measure_shape(
    models: Models,
    shape: Shape,
    steps: dict[str, Step],
    variants: Sequence[Variant],
    rounds: int,
    report: Report,
    stream: Iterator[Any],
    operations: int,
) -> Iterable[Measurement]:
    device = torch.device(report.device)

    def batch() -> Tensor:
        ids: Tensor = next(stream)["input_ids"].to(device, non_blocking=True)
        return ids

    found: dict[str, list[dict[str, float]]] = {name: [] for name in steps}
    for turn in tqdm(range(rounds + 1), desc=str(shape), unit="round"):
        ids = batch()
        reading = _timed(batch, device)
        for name, step in steps.items():
            parts = step.run(ids)
            if turn:
                found[name].append({"loader": reading, **parts})
    memory = {name: peak_bytes(partial(step.run, ids), device) for name, step in steps.items()}
    total = {name: statistics.median(sum(p.values()) for p in times) for name, times in found.items()}
    for variant in variants:
        name, rate = variant.name, report.rates["bf16" if variant.bf16 else "float32"]
        yield Measurement(
            shape=shape,
            variant=name,
            seconds=total[name],
            parts={part: statistics.median(p[part] for p in found[name]) for part in ("loader", *PARTS)},
            tokens_per_second=shape.batch * shape.length / total[name],
            times_published=total["published"] / total[name] if "published" in total else None,
            utilisation=operations / total[name] / rate,
            step_bytes=memory[name],
        )


def measure_growth(
    lengths: Sequence[int],
    heads: Sequence[int],
    variants: Sequence[str],
    width: int,
    limit: int,
    report: Report,
) -> Iterable[Growth]:
    """Yield time and memory of the loss alone, one sample of `width`, for each length and number of heads.

    "published" is left out where its matrices would need more than `limit` bytes.
    """
    device = torch.device(report.device)
    for length in lengths:
        for count in heads:
            for name in variants:
                # two models, logits and (log-)softmax of each, their KL and gradients, three relations
                if name == "published" and 3 * 8 * 4 * count * length**2 > limit:
                    continue
                yield _grow(name, length, count, width, device)


def _grow(name: str, length: int, heads: int, width: int, device: torch.device) -> Growth:
    generator = torch.Generator().manual_seed(0)

    def projections(train: bool) -> Projections:
        made = (torch.randn(1, length, width, generator=generator).to(device) for _ in range(3))
        return Projections(*(x.requires_grad_(train) for x in made))

    student, teacher = projections(True), projections(False)

    def work() -> None:
        if name == "published":
            loss = materialised_loss(student, teacher, RELATIONS, heads)
        else:
            pairs: list[Any] = [((s, s), (t, t), heads) for s, t in zip(student, teacher, strict=True)]
            loss = relation_kls(pairs, backend=name).sum()
        loss.backward()

    work()
    needed = peak_bytes(work, device)
    return Growth(length, heads, name, statistics.median(_timed(work, device) for _ in range(3)), needed)


def _timed(work: Any, device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
