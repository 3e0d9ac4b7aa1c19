"""The student: its shape (absolute or as a ratio to the teacher) and how its weights start."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional

from minilm_lab.errors import LabError
from minilm_lab.models.causal import saved_with_head
from minilm_lab.models.families import FAMILIES, dropout_of, family_of, ffn_of
from minilm_lab.models.layer_map import uniform
from minilm_lab.models.student_config import attention_shape, check_family, ffn_size, student_config

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

KEYS = ("tied", "own", "teacher_frozen")
LAYER_MAPS = ("random", "first", "last", "uniform", "search", "influence")
MEASURED = ("search", "influence")
"""Of these, those that are chosen on text (see minilm_lab.models.layer_choice)."""
EMBEDDINGS = ("random", "teacher", "projected")


@dataclass
class Initialisation:
    """Where the student's weights come from. The papers do not state theirs; random is the common reading."""

    layers: Any = "random"
    """random, or copied from the teacher: first (its first layers), last (the ones that end at the distilled
    layer), uniform (every n-th, ending at the distilled layer), a list such as [1,3,6] (from 1, ascending), or measured
    on held-out text before training: search (the ones that keep its sentence vectors best) and influence (the ones that
    change the hidden states most). Copying needs the teacher's width."""
    embeddings: str = "random"
    """random; teacher: word, position and type embeddings copied, which needs the teacher's width; projected: for a
    narrower student, projected on the principal directions of the teacher's word embeddings (with the teacher's
    width the same as teacher). A student of another family gets the word embeddings only."""
    untrained: Optional[str] = None
    """What comes after query, key and value in the last layer (attention output and feed-forward block), which
    relation objectives do not train: random, or teacher (copied from the layer it learns); null = as the other
    layers."""

    def __post_init__(self) -> None:
        if isinstance(self.layers, Sequence) and not isinstance(self.layers, str):
            self.layers = list(self.layers)
            if any(type(n) is not int for n in self.layers) or self.layers != sorted(set(self.layers)):
                raise LabError(
                    f"student.init.layers={self.layers}: give layers of the teacher, from 1, ascending"
                )
        elif self.layers not in LAYER_MAPS:
            raise LabError(
                f"student.init.layers={self.layers}: allowed are {', '.join(LAYER_MAPS)}, or a list of the teacher's layers"
            )
        if self.embeddings not in EMBEDDINGS:
            raise LabError(f"student.init.embeddings={self.embeddings}: allowed are {', '.join(EMBEDDINGS)}")
        if self.untrained not in (None, "random", "teacher"):
            raise LabError(f"student.init.untrained={self.untrained}: allowed are null, random, teacher")

    @property
    def measured(self) -> bool:
        """Whether the layers are chosen on text before training."""
        return self.layers in MEASURED


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
    """Width of the feed-forward block; null = 4 x hidden size (gated blocks of ModernBERT, Llama and Qwen: in the
    teacher's proportion to the hidden size)."""
    dropout: Optional[float] = None
    """Dropout of hidden states and attention during distillation; null = that of the teacher's hidden states (0.1).
    Fine-tuning uses the teacher's in any case, as the saved configuration says."""
    family: Optional[str] = None
    """model_type of the student (bert, roberta, modernbert, …); null = the teacher's. Another family shares the
    teacher's tokenizer, and its weights start at random (word embeddings may come from the teacher)."""
    init: Initialisation = field(default_factory=Initialisation)
    """How the weights start."""
    keys: Optional[str] = None
    """Output embeddings of a causal student: tied (its word embeddings), own (a head that starts as the teacher's where
    widths allow it), teacher_frozen (the teacher's, never trained; needs its width); null = as the teacher's, of a
    teacher that was saved with its head."""

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
        if self.keys not in (None, *KEYS):
            raise LabError(f"student.keys={self.keys}: allowed are null, {', '.join(KEYS)}")

    def absolute(self, teacher: PretrainedConfig) -> Student:
        """The same student with depth and width as numbers instead of ratios."""
        layers = self.layers or max(1, round(teacher.num_hidden_layers * (self.depth_ratio or 0)))
        hidden = self.hidden_size or max(1, round(teacher.hidden_size * (self.width_ratio or 0)))
        return dataclasses.replace(
            self, layers=layers, hidden_size=hidden, depth_ratio=None, width_ratio=None
        )

    def shape(self, teacher: PretrainedConfig) -> dict[str, Any]:
        """The absolute shape: layers, hidden_size, heads, ffn_size, dropout. LabError if it cannot be."""
        absolute = self.absolute(teacher)
        layers, hidden = absolute.layers, absolute.hidden_size
        assert layers is not None and hidden is not None
        heads = self.heads or int(teacher.num_attention_heads)
        kind = self.kind(teacher)
        check_family(kind, teacher)
        if hidden % heads:
            fitting = [h for h in range(1, min(hidden, 64) + 1) if hidden % h == 0]
            raise LabError(
                f"student.heads={heads} does not divide student.hidden_size={hidden}; these do: {fitting}"
            )
        attention_shape(kind, hidden, heads, teacher)
        shape = {
            "layers": layers,
            "hidden_size": hidden,
            "heads": heads,
            "ffn_size": self.ffn_size or ffn_size(kind, hidden, teacher),
            "dropout": dropout_of(teacher) if self.dropout is None else self.dropout,
        }
        self._check_init(shape, teacher)
        return shape

    def _check_init(self, shape: dict[str, Any], teacher: PretrainedConfig) -> None:
        """LabError if a student of this shape cannot start as `init` says."""
        init, hidden, kind = self.init, shape["hidden_size"], self.kind(teacher)
        whole = [n for n in ("layers", "untrained") if getattr(init, n) not in (None, "random")]
        for name in (*whole, *(["embeddings"] if init.embeddings == "teacher" else [])):
            if hidden != teacher.hidden_size:
                other = "projected" if name == "embeddings" else "random"
                raise LabError(
                    f"student.init.{name}={getattr(init, name)} copies the teacher's weights, which needs its hidden "
                    f"size {teacher.hidden_size} (student: {hidden}); use student.init.{name}={other}"
                )
        if init.embeddings == "projected" and hidden > teacher.hidden_size:
            raise LabError(
                f"student.init.embeddings=projected narrows the teacher's embeddings of width {teacher.hidden_size}; "
                f"a student of hidden size {hidden} is wider: use student.init.embeddings=random"
            )
        if isinstance(init.layers, list) or init.measured:
            self._check_choice(shape["layers"], teacher)
        for name in whole:
            value = getattr(init, name)
            if kind != teacher.model_type:
                raise LabError(
                    f"student.init.{name}={value} copies layers of a '{teacher.model_type}' model, which a student of "
                    f"student.family={kind} has no place for; use student.init.{name}=random"
                )
            for size, needed in (("heads", int(teacher.num_attention_heads)), ("ffn_size", ffn_of(teacher))):
                if shape[size] != needed:
                    raise LabError(
                        f"student.init.{name}={value} copies whole layers, which needs the teacher's {size} {needed} "
                        f"(student.{size}: {shape[size]}); use student.init.{name}=random"
                    )
        if init.untrained is not None and FAMILIES[kind].shared_layers:
            raise LabError(
                f"student.init.untrained={init.untrained}: all layers of '{kind}' models share their weights, so "
                "none of them stays untrained; leave it null"
            )

    def _check_choice(self, depth: int, teacher: PretrainedConfig) -> None:
        """LabError if a list of layers, or a measured choice of so many, cannot be of this teacher."""
        layers, whole = self.init.layers, int(teacher.num_hidden_layers)
        if isinstance(layers, list) and not (len(layers) == depth and 1 <= layers[0] <= layers[-1] <= whole):
            raise LabError(
                f"student.init.layers={layers}: a student of {depth} layers needs {depth} of the teacher's 1..{whole}"
            )
        if depth > whole:
            raise LabError(f"student.init.layers={layers}: the teacher has only {whole} layers to copy")
        if FAMILIES[str(teacher.model_type)].shared_layers and self.init.measured:
            raise LabError(
                f"student.init.layers={layers}: all layers of '{teacher.model_type}' models are the same"
            )
        if self.init.measured and len(set(getattr(teacher, "layer_types", None) or ())) > 1:
            raise LabError(
                f"student.init.layers={layers}: the layers of this '{teacher.model_type}' model are of several kinds, which "
                "a configuration must name before anything is measured; give a list, such as "
                f"student.init.layers={uniform(depth, whole)}"
            )

    def head(self, teacher: PretrainedConfig, needed: bool = False) -> str | None:
        """One of KEYS: what head the student has; None for a body alone, unless one is `needed`."""
        causal = FAMILIES[self.kind(teacher)].causal
        if self.keys is not None and not causal:
            raise LabError(
                f"student.keys={self.keys}: a '{self.kind(teacher)}' student has no output embeddings for next tokens"
            )
        if self.keys == "teacher_frozen" and self.shape(teacher)["hidden_size"] != teacher.hidden_size:
            raise LabError(
                f"student.keys=teacher_frozen needs the teacher's hidden size {teacher.hidden_size}; use tied or own"
            )
        if self.keys is None and causal and (needed or saved_with_head(teacher)):
            return "tied" if getattr(teacher, "tie_word_embeddings", False) else "own"
        return self.keys

    def kind(self, teacher: PretrainedConfig) -> str:
        """The student's model_type."""
        return str(teacher.model_type) if self.family is None else self.family

    def identity(self, teacher: PretrainedConfig) -> dict[str, Any]:
        """What decides a result: the absolute shape and the initialisation. 'l3_h384' equals 'half_depth'."""
        shape = self.shape(teacher)
        init = {"layers": self.init.layers, "embeddings": self.init.embeddings}
        if init["embeddings"] == "projected" and shape["hidden_size"] == teacher.hidden_size:
            init["embeddings"] = "teacher"
        # Only what differs from a start without these settings: so older runs are found again.
        usual = "random" if self.init.layers == "random" else "teacher"
        if self.init.untrained not in (None, usual):
            init["untrained"] = str(self.init.untrained)
        other = {} if self.kind(teacher) == teacher.model_type else {"family": self.kind(teacher)}
        keys = self.head(teacher)
        return {**shape, **other, "init": init, **({"keys": keys} if keys else {})}

    def config(self, teacher: PretrainedConfig) -> PretrainedConfig:
        """The student's Hugging Face configuration: the teacher's, or its own family's, with the student's shape."""
        shape, whole = self.shape(teacher), int(teacher.num_hidden_layers)
        copied = self.copied_layers(shape["layers"], whole) if shape["layers"] <= whole else None
        return student_config(self.kind(teacher), shape, teacher, copied)

    def copied_layers(self, depth: int, distilled: int) -> list[int] | None:
        """The teacher layer (from 1) behind each student layer, or None: they start at random, or are not chosen yet.

        `distilled` is the teacher layer that the student's last layer learns: `uniform` and `last` end there,
        so that what the loss cannot reach (that layer's attention output and feed-forward block) fits what it
        can.
        """
        if isinstance(self.init.layers, list):
            return list(self.init.layers)
        if self.init.layers == "random" or self.init.measured:
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
        return uniform(depth, distilled)


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
    import torch
    from transformers import AutoModel

    from minilm_lab.models import student_weights as weights

    whole = teacher.config if whole is None else whole
    config = student.config(whole)
    depth = int(config.num_hidden_layers)
    copied = student.copied_layers(depth, distilled)
    # The library's own initialisation draws from the global generator: leave it as it was found.
    with torch.random.fork_rng(devices=[]):
        # On the CPU, where weights are drawn; torch.manual_seed would reseed the GPUs too.
        torch.default_generator.manual_seed(seed)
        body = AutoModel.from_config(config, dtype=torch.float32)
    fresh = {} if student.init.untrained != "random" else weights.keep_out_of_reach(body)
    if copied is not None:
        weights.copy_layers(body, teacher, copied)
    if student.init.embeddings != "random":
        weights.copy_embeddings(body, teacher)
    if fresh:
        family_of(config).blocks(body)[-1].load_state_dict(fresh, strict=False)
    elif student.init.untrained == "teacher":
        last = distilled if copied is None else copied[-1]
        weights.copy_out_of_reach(body, family_of(config).blocks(teacher)[last - 1])
    weights.set_dropout(body, student.shape(whole)["dropout"])
    return body.train()
