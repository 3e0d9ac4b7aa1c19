"""The Hugging Face configuration of a student: the teacher's, or another family's, with the student's shape."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from minilm_lab.errors import LabError, nearest
from minilm_lab.models.families import (
    FAMILIES,
    check_tapped,
    dropout_of,
    family_of,
    ffn_of,
    head_size,
    key_heads,
    positions_of,
    unused_positions,
)
from minilm_lab.models.layer_map import uniform

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def check_family(kind: str, teacher: PretrainedConfig) -> None:
    """LabError if a model of this kind cannot learn with the teacher's tokenizer."""
    if kind == teacher.model_type:
        check_tapped(teacher, "student")
    elif kind not in FAMILIES:
        raise LabError(
            f"student.family={kind} is not supported.{nearest(kind, FAMILIES)} Supported: {', '.join(FAMILIES)}"
        )
    family = FAMILIES[kind]
    if family.padding not in (None, teacher.pad_token_id):
        raise LabError(
            f"student.family={kind} counts positions from padding tokens of id {family.padding}, the teacher's "
            f"tokenizer pads with id {teacher.pad_token_id}; use another family, such as student.family=bert"
        )
    if family.own_tokenizer and teacher.model_type != kind:
        raise LabError(
            f"student.family={kind}: beside such a model the library reads every tokenizer as the family's own, not "
            "as the teacher's; use another family, such as student.family=qwen3"
        )


def ffn_size(kind: str, hidden: int, teacher: PretrainedConfig) -> int:
    """The usual feed-forward width: 4 x hidden size; for gated blocks what the teacher (else the family) has for
    its hidden size."""
    if not FAMILIES[kind].gated:
        return 4 * hidden
    from transformers import AutoConfig

    usual = teacher if family_of(teacher).gated else AutoConfig.for_model(kind)
    return round(ffn_of(usual) * hidden / usual.hidden_size)


def attention_shape(kind: str, hidden: int, heads: int, teacher: PretrainedConfig) -> tuple[int, int]:
    """(heads of key and value, head size) of a student, in the teacher's proportions; LabError if they are not whole
    numbers."""
    if kind != teacher.model_type:
        shared, size = heads, hidden // heads
    else:
        shared, rest = divmod(key_heads(teacher) * heads, int(teacher.num_attention_heads))
        if rest or shared == 0 or heads % shared:
            raise LabError(
                f"student.heads={heads} cannot share keys and values as the teacher's {teacher.num_attention_heads} "
                f"heads share {key_heads(teacher)}; use student.heads={teacher.num_attention_heads}"
            )
        whole = head_size(teacher) * int(teacher.num_attention_heads)
        size, rest = divmod(whole * hidden, int(teacher.hidden_size) * heads)
        if rest:
            raise LabError(
                f"student.heads={heads} and student.hidden_size={hidden} give no whole head size in the proportions "
                f"of the teacher ({teacher.num_attention_heads} heads of {head_size(teacher)}, hidden size "
                f"{teacher.hidden_size})"
            )
    if FAMILIES[kind].rotary and size % 2:
        raise LabError(
            f"student.heads={heads} and student.hidden_size={hidden} give heads of size {size}; rotary positions turn "
            "pairs of numbers, so it must be even"
        )
    return shared, size


def student_config(
    kind: str, shape: Mapping[str, Any], teacher: PretrainedConfig, copied: list[int] | None
) -> PretrainedConfig:
    """The configuration of a student of family `kind` and `shape` (see Student.shape).

    copied: the teacher layers (from 1) that its layers come from; None when they start at random.
    """
    layers, hidden, heads = shape["layers"], shape["hidden_size"], shape["heads"]
    shared, size = attention_shape(kind, hidden, heads, teacher)
    config = copy.deepcopy(teacher) if kind == teacher.model_type else _of_family(kind, teacher)
    settings = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        FAMILIES[kind].ffn: shape["ffn_size"],
    }
    # What follows from the shape in some families only.
    derived = {
        "num_key_value_heads": shared,
        "head_dim": size,
        "attention_head_size": size,
        "pooler_hidden_size": hidden,
        "num_hidden_groups": min(getattr(config, "num_hidden_groups", 1), layers),  # ALBERT
        "layer_types": _layer_types(config, layers, copied),
    }
    if name := FAMILIES[kind].embedding_size:
        derived[name] = min(getattr(config, name), hidden)
    settings |= {name: value for name, value in derived.items() if getattr(config, name, None) is not None}
    for name, value in settings.items():
        setattr(config, name, value)
    config._name_or_path = ""
    return config


def _of_family(kind: str, teacher: PretrainedConfig) -> PretrainedConfig:
    """The library's usual configuration of a family, for the teacher's tokenizer and length."""
    from transformers import AutoConfig

    tokens = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")
    settings = {name: getattr(teacher, name, None) for name in tokens}
    usual = AutoConfig.for_model(kind)
    settings = {name: value for name, value in settings.items() if hasattr(usual, name)}
    config = AutoConfig.for_model(kind, vocab_size=teacher.vocab_size, **FAMILIES[kind].recipe, **settings)
    config.max_position_embeddings = positions_of(teacher) + unused_positions(config)
    setattr(config, FAMILIES[kind].dropout, dropout_of(teacher))
    return config


def _layer_types(config: PretrainedConfig, layers: int, copied: list[int] | None) -> list[str] | None:
    """Which layers see all tokens and which a window: those that the layers come from, or evenly spread ones, so that
    the last layer is of the kind of the teacher's last."""
    types = getattr(config, "layer_types", None)
    if types is None:
        return None
    from_layers = copied or uniform(layers, max(len(types), layers))
    return [types[(number - 1) % len(types)] for number in from_layers]
