"""The student: its shape (absolute or as a ratio to the teacher) and how its weights start."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

from minilm_lab.errors import LabError
from minilm_lab.models.families import family_of
from minilm_lab.models.stopping import get

LAYER_MAPS = ("random", "first", "last", "uniform")


@dataclass
class Initialisation:
    """Where the student's weights come from. The papers do not state theirs; random is the common reading."""

    layers: str = "random"
    """random, or copied from the teacher: first (its first layers), last (the ones that end at the distilled
    layer), uniform (every n-th, ending at the distilled layer). Copying needs the teacher's width."""
    embeddings: str = "random"
    """random, or teacher: word, position and type embeddings copied. Needs the teacher's width."""

    def __post_init__(self) -> None:
        if self.layers not in LAYER_MAPS:
            raise LabError(f"student.init.layers={self.layers}: allowed are {', '.join(LAYER_MAPS)}")
        if self.embeddings not in ("random", "teacher"):
            raise LabError(f"student.init.embeddings={self.embeddings}: allowed are random, teacher")


@dataclass
class Student:
    """Shape of the student. Depth and width are absolute (layers, hidden_size) or ratios to the teacher."""

    name: str
    """Short name, for run names and tables; not part of a run's identity."""
    layers: Optional[int] = None
    """Number of Transformer layers M."""
    hidden_size: Optional[int] = None
    """Width d' of the hidden states."""
    depth_ratio: Optional[float] = None
    """Layers as a share of the teacher's, in place of `layers`."""
    width_ratio: Optional[float] = None
    """Hidden size as a share of the teacher's, in place of `hidden_size`."""
    heads: Optional[int] = None
    """Attention heads; null = as many as the teacher (12 in all students of the papers)."""
    ffn_size: Optional[int] = None
    """Width of the feed-forward block; null = 4 x hidden size."""
    dropout: Optional[float] = None
    """Dropout of hidden states and attention during distillation; null = that of the teacher's hidden states (0.1).
    Fine-tuning uses the teacher's in any case, as the saved configuration says."""
    init: Initialisation = field(default_factory=Initialisation)
    """How the weights start."""

    def __post_init__(self) -> None:
        for absolute, ratio in (("layers", "depth_ratio"), ("hidden_size", "width_ratio")):
            given = [n for n in (absolute, ratio) if getattr(self, n) is not None]
            if len(given) != 1:
                raise LabError(
                    f"student: give one of student.{absolute} and student.{ratio} (got {given or 'none'})"
                )
            if not getattr(self, given[0]) > 0:
                raise LabError(f"student.{given[0]}={getattr(self, given[0])} must be more than 0")
        for name in ("heads", "ffn_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise LabError(f"student.{name}={value} must be at least 1, or null for its default")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise LabError(f"student.dropout={self.dropout} must be in [0, 1)")

    def shape(self, teacher: PretrainedConfig) -> dict[str, Any]:
        """The absolute shape: layers, hidden_size, heads, ffn_size, dropout. LabError if it cannot be."""
        layers = self.layers or max(1, round(teacher.num_hidden_layers * (self.depth_ratio or 0)))
        hidden = self.hidden_size or max(1, round(teacher.hidden_size * (self.width_ratio or 0)))
        heads = self.heads or int(teacher.num_attention_heads)
        if hidden % heads:
            fitting = [h for h in range(1, min(hidden, 64) + 1) if hidden % h == 0]
            raise LabError(
                f"student.heads={heads} does not divide student.hidden_size={hidden}; these do: {fitting}"
            )
        copies = [n for n in ("layers", "embeddings") if getattr(self.init, n) != "random"]
        if copies and hidden != teacher.hidden_size:
            raise LabError(
                f"student.init.{copies[0]}={getattr(self.init, copies[0])} copies the teacher's weights, which "
                f"needs its hidden size {teacher.hidden_size} (student: {hidden}); use "
                f"student.init.{copies[0]}=random"
            )
        if self.init.layers != "random":
            for name, value, needed in (
                ("heads", heads, teacher.num_attention_heads),
                ("ffn_size", self.ffn_size or 4 * hidden, teacher.intermediate_size),
            ):
                if value != needed:
                    raise LabError(
                        f"student.init.layers={self.init.layers} copies whole layers, which needs the "
                        f"teacher's {name} {needed} (student.{name}: {value}); use student.init.layers=random"
                    )
        dropout = float(teacher.hidden_dropout_prob) if self.dropout is None else self.dropout
        return {
            "layers": layers,
            "hidden_size": hidden,
            "heads": heads,
            "ffn_size": self.ffn_size or 4 * hidden,
            "dropout": dropout,
        }

    def identity(self, teacher: PretrainedConfig) -> dict[str, Any]:
        """What decides a result: the absolute shape and the initialisation. 'l3_h384' equals 'half_depth'."""
        return {
            **self.shape(teacher),
            "init": {"layers": self.init.layers, "embeddings": self.init.embeddings},
        }

    def config(self, teacher: PretrainedConfig) -> PretrainedConfig:
        """The student's Hugging Face configuration: the teacher's, with the student's shape."""
        shape = self.shape(teacher)
        config = copy.deepcopy(teacher)
        config.num_hidden_layers = shape["layers"]
        config.hidden_size = shape["hidden_size"]
        config.num_attention_heads = shape["heads"]
        config.intermediate_size = shape["ffn_size"]
        if config.model_type == "electra":
            config.embedding_size = min(config.embedding_size, shape["hidden_size"])
        config._name_or_path = ""
        return config

    def copied_layers(self, depth: int, distilled: int) -> list[int] | None:
        """The teacher layer (from 1) behind each student layer, or None when layers start at random.

        `distilled` is the teacher layer that the student's last layer learns: `uniform` and `last` end there,
        so that what the loss cannot reach (that layer's attention output and feed-forward block) fits what it
        can.
        """
        if self.init.layers == "random":
            return None
        if depth > distilled:
            raise LabError(
                f"student.init.layers={self.init.layers}: a student of {depth} layers cannot be copied from "
                f"the {distilled} layers up to the distilled one; use student.init.layers=random"
            )
        if self.init.layers == "first":
            return list(range(1, depth + 1))
        if self.init.layers == "last":
            return list(range(distilled - depth + 1, distilled + 1))
        return [round((i + 1) * distilled / depth) for i in range(depth)]


def build_student(
    student: Student,
    teacher: PreTrainedModel,
    distilled: int,
    seed: int,
    whole: PretrainedConfig | None = None,
) -> PreTrainedModel:
    """Make the student, in float32 and train mode.

    `teacher`: the body to copy from, with at least `distilled` layers; `whole`: configuration of the whole
    teacher, of which ratios are taken, where `teacher` is loaded up to some layer only. The same (student,
    teacher, seed) gives the same weights whatever the objective, so that a control without distillation starts
    where the distilled student did.
    """
    whole = teacher.config if whole is None else whole
    config = student.config(whole)
    depth = int(config.num_hidden_layers)
    copied = student.copied_layers(depth, distilled)
    # The library's own initialisation draws from the global generator: leave it as it was found.
    with torch.random.fork_rng(devices=[]):
        # On the CPU, where weights are drawn; torch.manual_seed would reseed the GPUs too.
        torch.default_generator.manual_seed(seed)
        body = AutoModel.from_config(config, dtype=torch.float32)
    family = family_of(config)
    path = family.layers
    if copied is not None:
        for layer, number in zip(get(body, path), copied, strict=True):
            layer.load_state_dict(get(teacher, path)[number - 1].state_dict())
    if student.init.embeddings == "teacher":
        for name in ("embeddings", "embeddings_project"):  # ELECTRA's embeddings have a width of their own
            _copy_if_there(body, teacher, name)
    if copied is not None:
        # What stands beside the layers belongs to them: MPNet's relative bias, the pooler on top.
        for name in (*family.beside, "pooler"):
            _copy_if_there(body, teacher, name)
    dropout = student.shape(whole)["dropout"]
    for module in body.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    return body.train()


def _copy_if_there(body: PreTrainedModel, teacher: PreTrainedModel, path: str) -> None:
    mine, theirs = _maybe(body, path), _maybe(teacher, path)
    if mine is not None and theirs is not None:
        mine.load_state_dict(theirs.state_dict())


def _maybe(module: torch.nn.Module, path: str) -> torch.nn.Module | None:
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None
