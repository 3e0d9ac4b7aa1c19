"""The models of `timing.models`: what identifies them, how they are loaded, how large they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from minilm_lab.errors import LabError
from minilm_lab.exporting.facts import facts_of
from minilm_lab.models import sources
from minilm_lab.models.families import positions_of
from minilm_lab.models.resolve import resolve
from minilm_lab.models.student import Student
from minilm_lab.models.teacher import Teacher

_SHAPE = re.compile(r"([1-9]\d*)x([1-9]\d*)")


@dataclass(frozen=True)
class Subject:
    """A model that is timed."""

    key: dict[str, Any]
    """What identifies it."""
    config: PretrainedConfig
    """Its configuration."""
    load: Callable[[], PreTrainedModel]
    """Loads its body in float32."""
    tokenizer: PreTrainedTokenizerBase
    """Reads the texts for it."""

    @property
    def parameters(self) -> dict[str, int]:
        """Parameters by part, as `facts_of` counts them."""
        counted: dict[str, int] = facts_of(self.config)["parameters"]
        return counted


def shape_of(model: str) -> tuple[int, int] | None:
    """(layers, hidden size) of an entry of `Timing.models`, or None where it is no shape."""
    match = _SHAPE.fullmatch(model)
    return None if match is None else (int(match[1]), int(match[2]))


def subject_of(name: str, length: int, teacher: Teacher, runs: Path, cache: Path) -> Subject:
    """Look a model of `Timing.models` up; no weights are read. LabError if there is none, or it takes less than `length`."""
    shape = shape_of(name)
    if shape is not None:
        of_teacher = teacher.config(cache)
        config = Student(name=name, layers=shape[0], hidden_size=shape[1]).config(of_teacher)
        key: dict[str, Any] = {
            "shape": list(shape),
            "family": str(of_teacher.model_type),
            "vocabulary": of_teacher.vocab_size,
        }
        load: Any = partial(AutoModel.from_config, config, dtype=torch.float32)
        tokenizer = teacher.tokenizer(cache)
    elif name == "teacher":
        key, config = {"teacher": teacher.identity(cache)}, teacher.config(cache)
        load, tokenizer = partial(teacher.body, cache), teacher.tokenizer(cache)
    else:
        model = resolve(name, runs=runs, cache=cache, key="timing.models")
        key, place = model.identity, (model.where, model.revision, "timing.models")
        config = sources.load_config(*place)
        load = partial(sources.load_body, *place)
        tokenizer = sources.load_tokenizer(*place)
    if length > positions_of(config):
        raise LabError(
            f"timing.length={length} is beyond the {positions_of(config)} positions of {name}; give less"
        )
    return Subject(key, config, load, tokenizer)
