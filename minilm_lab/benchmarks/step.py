"""One distillation step in parts, each timed: teacher, student forward, loss, backward, optimizer."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from minilm_lab.benchmarks.published import FullModel, materialised_loss
from minilm_lab.models.attention import use_fastest_attention
from minilm_lab.models.tapped import Tapped
from minilm_lab.models.taps import Needs, Projections
from minilm_lab.relations import relation_kls
from minilm_lab.training.optimizer import configure
from minilm_lab.training.settings import Optim

PARTS = ("teacher", "student", "loss", "backward", "optimizer")
RELATIONS = "qq kk vv"


@dataclass(frozen=True)
class Shape:
    """Of one measurement: blocks a step, tokens a block, relation heads."""

    batch: int
    length: int
    heads: int

    def __str__(self) -> str:
        return f"{self.batch} × {self.length}, {self.heads} heads"


@dataclass(frozen=True)
class Variant:
    """A way to take the step."""

    name: str
    """published, reference, blockwise or triton (the latter three: of relation_kl), "+bf16", "+compile"."""

    @property
    def backend(self) -> str:
        """The relation loss's backend."""
        return self.name.split("+")[0]

    @property
    def bf16(self) -> bool:
        """Whether the step runs under bf16 autocast."""
        return "bf16" in self.name.split("+")

    @property
    def compiled(self) -> bool:
        """Whether both models are compiled."""
        return "compile" in self.name.split("+")


class Stopped(nn.Module):
    """A model that ends at query, key and value of one layer."""

    def __init__(self, body: PreTrainedModel, layer: int) -> None:
        super().__init__()
        self.tapped, self.layer = Tapped(body, Needs(projections=frozenset({layer}))), layer

    def forward(self, input_ids: Tensor) -> Projections:
        """input_ids: (batch, length) int64."""
        return self.tapped(input_ids).projections[self.layer]


class Step:
    """A student, a teacher and an optimizer of their own; `run` takes one step and returns seconds by part."""

    def __init__(
        self, variant: Variant, teacher: PreTrainedModel, student: PreTrainedModel, layer: int, shape: Shape,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.variant, self.shape, self.device = variant, shape, device
        teacher, student = copy.deepcopy(teacher), copy.deepcopy(student)
        depth = int(student.config.num_hidden_layers)
        self.teacher: nn.Module
        self.student: nn.Module
        if variant.backend == "published":
            self.teacher, self.student = FullModel(teacher, layer), FullModel(student, depth)
        else:
            precision = "bf16-mixed" if variant.bf16 else "32-true"
            use_fastest_attention(student, device.type == "cpu", precision, shape.length)
            self.teacher, self.student = Stopped(teacher, layer), Stopped(student, depth)
        self.teacher.to(device)
        self.student.to(device)
        self.teacher.eval().requires_grad_(False)
        self.student.train()
        # The same optimizer for all: what is compared is the step around it.
        optimizer = configure(self.student, Optim(), 1000, fused=True)
        self.optimizer = optimizer["optimizer"]
        self.run_teacher: Callable[[Tensor], Projections] = self.teacher
        self.run_student: Callable[[Tensor], Projections] = self.student
        if variant.compiled:
            self.run_teacher = torch.compile(self.teacher, dynamic=False)
            self.run_student = torch.compile(self.student, dynamic=False)

    def _loss(self, student: Projections, teacher: Projections) -> Tensor:
        if self.variant.backend == "published":
            return materialised_loss(student, teacher, RELATIONS, self.shape.heads)
        pairs = [((s, s), (t, t), self.shape.heads) for s, t in zip(student, teacher, strict=True)]
        return relation_kls(pairs, backend=self.variant.backend).sum()

    def _context(self) -> AbstractContextManager[object]:
        if self.variant.bf16:
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def run(self, ids: Tensor) -> dict[str, float]:
        """ids: (batch, length) int64 on the device."""
        marks = [self._now()]
        with self._context():
            with torch.no_grad():
                target = self.run_teacher(ids)
            marks.append(self._now())
            projections = self.run_student(ids)
            marks.append(self._now())
            loss = self._loss(projections, target)
            marks.append(self._now())
        loss.backward()
        marks.append(self._now())
        torch.nn.utils.clip_grad_norm_([p for p in self.student.parameters() if p.grad is not None], 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        marks.append(self._now())
        return {name: end - begin for name, begin, end in zip(PARTS, marks, marks[1:], strict=False)}

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
