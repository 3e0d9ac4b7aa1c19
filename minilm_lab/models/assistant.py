"""Teacher assistants: the students between a teacher and a much smaller student (MiniLM, section 3.3)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from minilm_lab import config as configs
from minilm_lab.errors import LabError
from minilm_lab.models.student import Initialisation, Student
from minilm_lab.models.teacher import Teacher

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

RULES = ("none", "auto", "chain")


@dataclass
class Shape:
    """One assistant of a chain; ratios are to the teacher."""

    layers: Optional[int] = None
    """Transformer layers."""
    hidden_size: Optional[int] = None
    """Hidden size."""
    depth_ratio: Optional[float] = None
    """Layers as a share of the teacher's."""
    width_ratio: Optional[float] = None
    """Hidden size as a share of the teacher's."""


@dataclass
class Assistant:
    """Which assistants stand between teacher and student. Each is distilled in a run of its own, with the same
    objective, corpus, optimizer, scale and seed, and serves every student that needs it."""

    rule: str = "none"
    """none; auto: the paper's rule, one assistant of the teacher's depth and the student's width where the student
    has at most half of the teacher's layers and half of its hidden size; chain: those of `chain`, in order."""
    chain: list[Any] = field(default_factory=list)
    """Shapes of the assistants: layers or depth_ratio, and hidden_size or width_ratio."""
    init: Initialisation = field(default_factory=Initialisation)
    """How an assistant's weights start; copying needs the width of what it learns from."""

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise LabError(f"assistant.rule={self.rule}: allowed are {', '.join(RULES)}")
        if (self.rule == "chain") != bool(self.chain):
            raise LabError(
                f"assistant.rule={self.rule} with assistant.chain={self.chain}: a chain needs rule=chain and at "
                "least one shape such as {layers: 12, hidden_size: 384}"
            )
        self.shapes: list[Shape] = []
        for number, shape in enumerate(self.chain):
            if not isinstance(shape, dict):
                raise LabError(
                    f"assistant.chain[{number}]={shape!r}: give a shape, {{layers: 12, hidden_size: 384}}"
                )
            self.shapes.append(configs.from_values(Shape, shape, f"assistant.chain[{number}]"))

    def students(self, student: Student, teacher: PretrainedConfig) -> list[Student]:
        """The assistants of `student`, in the order in which they are made; shapes are absolute.

        LabError for an assistant that is smaller than the student or larger than what it learns from.
        """
        last = student.absolute(teacher)
        assert last.layers is not None and last.hidden_size is not None
        if self.rule == "auto":
            small = (
                2 * last.layers <= teacher.num_hidden_layers and 2 * last.hidden_size <= teacher.hidden_size
            )
            made = (
                [self._assistant(student, int(teacher.num_hidden_layers), last.hidden_size)] if small else []
            )
        else:
            made = [self._of(shape, student, teacher) for shape in self.shapes]
        sizes = [
            (int(teacher.num_hidden_layers), int(teacher.hidden_size)),
            *((s.layers or 0, s.hidden_size or 0) for s in made),
            (last.layers, last.hidden_size),
        ]
        for (depth, width), (layers, hidden) in pairwise(sizes) if made else ():
            if layers > depth or hidden > width or (layers, hidden) == (depth, width):
                raise LabError(
                    f"assistant: {layers} layers x {hidden} after {depth} x {width}; each model of a chain, from the "
                    "teacher to the student, must be smaller than the one before"
                )
        return made

    def _of(self, shape: Shape, student: Student, teacher: PretrainedConfig) -> Student:
        found = Student(name="assistant", **dataclasses.asdict(shape)).absolute(teacher)
        assert found.layers is not None and found.hidden_size is not None
        return self._assistant(student, found.layers, found.hidden_size)

    def _assistant(self, student: Student, layers: int, hidden: int) -> Student:
        """A student of this size with the heads and the dropout of the final one."""
        return dataclasses.replace(
            student,
            name=f"assistant_l{layers}_h{hidden}",
            layers=layers,
            hidden_size=hidden,
            depth_ratio=None,
            width_ratio=None,
            ffn_size=None,
            init=dataclasses.replace(self.init),
        )


@dataclass
class AssistantTeacher(Teacher):
    """An assistant in the role of the teacher. Until its run is done only its configuration is known."""

    run: str = ""
    """Identity of the run that makes it."""
    planned: Any = None
    """Its configuration."""
    original: Any = None
    """The teacher it learnt from, whose tokenizer it shares."""

    def locate(self, cache: Path) -> str:
        """The folder of the run's product."""
        assert self.path is not None
        return self.path

    def config(self, cache: Path) -> PretrainedConfig:
        """The configuration that the run gives it."""
        planned: PretrainedConfig = self.planned
        return planned

    def identity(self, cache: Path) -> dict[str, Any]:
        """The run that makes it."""
        return {"run": self.run, "layer": self.distilled_layer(self.planned)}

    def tokenizer(self, cache: Path) -> PreTrainedTokenizerBase:
        """The first teacher's."""
        tokenizer: PreTrainedTokenizerBase = self.original.tokenizer(cache)
        return tokenizer
