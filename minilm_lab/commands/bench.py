"""`minilm-lab bench`: how fast a distillation step is here, against what other code does."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from transformers.utils import logging as transformers_logging

from minilm_lab import config
from minilm_lab.benchmarks import measure
from minilm_lab.benchmarks.step import Shape, Variant
from minilm_lab.commands.parts import read_how
from minilm_lab.errors import LabError
from minilm_lab.models.student import Student, build_student
from minilm_lab.models.teacher import Teacher
from minilm_lab.reports import bench as report_of
from minilm_lab.runs.environment import describe
from minilm_lab.runs.files import write_atomically, write_json
from minilm_lab.training.devices import uses_gpu


@dataclass
class Grid:
    """What is measured."""

    name: str = ""
    """Name of the grid; the folder of its report."""
    shapes: list[list[int]] = field(default_factory=list)
    """[blocks a step, tokens a block], each with every number of heads."""
    heads: list[int] = field(default_factory=lambda: [12, 48])
    """Relation heads."""
    variants: list[str] = field(default_factory=list)
    """published, reference, blockwise, triton; "+bf16", "+compile". Variants that the device lacks are left out."""
    rounds: int = 7
    """Rounds in which the variants take turns."""
    growth_lengths: list[int] = field(default_factory=list)
    """Lengths of the loss alone; none = leave that part out."""
    growth_heads: list[int] = field(default_factory=lambda: [12, 48])
    """Relation heads of that part."""

    def __post_init__(self) -> None:
        if not self.shapes or any(len(s) != 2 or min(s) < 1 for s in self.shapes):
            raise LabError(f"grid.shapes={self.shapes}: give pairs of [batch, length]")
        for name in self.variants:
            backend, *rest = name.split("+")
            if backend not in ("published", "reference", "blockwise", "triton") or set(rest) - {
                "bf16",
                "compile",
            }:
                raise LabError(
                    f"grid.variants has '{name}': published, reference, blockwise or triton, then +bf16, +compile"
                )


def run(cfg: DictConfig) -> None:
    """Entry point for Hydra."""
    how = read_how(cfg)
    grid: Grid = config.section(cfg, "grid")
    teacher: Teacher = config.section(cfg, "teacher")
    student: Student = config.section(cfg, "student")
    transformers_logging.disable_progress_bar()
    if how.impl.threads is not None:
        torch.set_num_threads(how.impl.threads)
    device = torch.device("cuda" if uses_gpu(how.trainer.accelerator) else "cpu")
    teacher_config = teacher.config(how.cache)
    layer = teacher.distilled_layer(teacher_config)
    body = teacher.body(how.cache)
    models = measure.Models(
        body, build_student(student, body, layer, 0), layer, int(teacher_config.vocab_size)
    )
    variants = [Variant(name) for name in grid.variants if device.type == "cuda" or "triton" not in name]
    shapes = [Shape(batch, length, heads) for batch, length in grid.shapes for heads in grid.heads]

    found = measure.Report(device.type, measure.rates(device))
    found.steps.extend(measure.measure_steps(models, shapes, variants, grid.rounds, found))
    backends = list(dict.fromkeys(v.backend for v in variants if v.backend != "reference"))
    found.growth.extend(
        measure.measure_growth(
            grid.growth_lengths, grid.growth_heads, backends, teacher_config.hidden_size, 8 << 30, found
        )
    )
    where = describe()
    size = models.student.config
    about = {
        "models": f"Teacher {teacher.name} stopped at layer {layer}, student {size.num_hidden_layers} x "
        f"{size.hidden_size}, relations Q-Q, K-K, V-V",
        "hardware": _hardware(where["hardware"]),
        "versions": where["versions"],
        "commit": where["commit"],
        "command": " ".join(["minilm-lab bench", *sys.argv[1:]]),
    }
    _write(Path(cfg.out or how.runs / "bench" / grid.name), about | dataclasses.asdict(found))


def _hardware(hardware: dict[str, Any]) -> str:
    cores = f"{hardware['cores']} cores, {torch.get_num_threads()} threads"
    return ", ".join(part for part in (hardware["gpu"], hardware["cpu"], cores) if part)


def _write(out: Path, report: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "bench.json", report)
    text = report_of.to_markdown(report)
    write_atomically(out / "bench.md", text.encode())
    report_of.write_picture(report, out / "bench.png")
    print(text)
    print(f"files: {out.resolve()}")
