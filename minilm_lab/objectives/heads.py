"""Heads and attention of a pair of models: what can be compared, and the errors when it cannot."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Optional

from minilm_lab.errors import LabError
from minilm_lab.models.families import family_of, projection_widths
from minilm_lab.models.layer_map import Pairs

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def check_heads(heads: Optional[int]) -> None:
    """LabError if no pair of models can be split into so many relation heads."""
    if heads is not None and heads < 1:
        raise LabError(f"objective.heads={heads} must be at least 1")


def relation_heads(heads: Optional[int], teacher: PretrainedConfig) -> int:
    """The number of relation heads: as set, or the teacher's attention heads."""
    return int(teacher.num_attention_heads) if heads is None else heads


def check_dividing(heads: int, ours: int, theirs: int) -> None:
    """LabError unless `heads` divides the widths of student (`ours`) and teacher; it lists the numbers that do."""
    common = gcd(ours, theirs)
    if common % heads:
        fitting = [h for h in range(1, common + 1) if common % h == 0]
        raise LabError(
            f"objective.heads={heads} must divide the hidden sizes of teacher ({theirs}) and student ({ours}); "
            f"these do: {fitting}"
        )


def check_equal_attention(
    student: PretrainedConfig, teacher: PretrainedConfig, why: str, otherwise: str = ""
) -> None:
    """LabError unless both models have as many attention heads; `why` begins the message, `otherwise` ends it."""
    if student.num_attention_heads != teacher.num_attention_heads:
        raise LabError(
            f"{why}, of which the student has {student.num_attention_heads} and the teacher "
            f"{teacher.num_attention_heads}; set student.heads={teacher.num_attention_heads}{otherwise}"
        )


def is_causal(student: PretrainedConfig, teacher: PretrainedConfig) -> bool:
    """Whether a token sees no later one; LabError if that holds for one of the two models only."""
    ours, theirs = (family_of(config).causal for config in (student, teacher))
    if ours != theirs:
        raise LabError(
            f"a '{student.model_type}' student cannot learn the relations of a '{teacher.model_type}' teacher: one of "
            "them sees later tokens, the other does not; use a student of the teacher's family"
        )
    return theirs


def check_windows(pairs: Pairs, student: PretrainedConfig, teacher: PretrainedConfig) -> None:
    """LabError if a student layer sees less far than the teacher layer whose attention it is to match.

    The divergence of the two distributions would be infinite (ModernBERT: only every third layer sees all tokens).
    """
    for ours, theirs in pairs:
        near, far = _window(student, ours), _window(teacher, theirs)
        if near is not None and (far is None or near < far):
            raise LabError(
                f"student layer {ours} sees tokens less than {near} away, teacher layer {theirs} "
                f"{'all' if far is None else f'less than {far} away'}: it cannot match that attention; choose "
                "student.layers, teacher.layer or objective.pairs so that layers of one kind meet, or an objective "
                "that compares relations instead (objective=minilmv2)"
            )


def _window(config: PretrainedConfig, layer: int) -> int | None:
    kinds = getattr(config, "layer_types", None) or []
    sliding = layer <= len(kinds) and kinds[layer - 1] == "sliding_attention"
    return int(config.sliding_window) if sliding else None


def projection_width(config: PretrainedConfig) -> int:
    """Width of a layer's queries, and of its keys and values where those of a group are repeated."""
    return projection_widths(config)[0]
