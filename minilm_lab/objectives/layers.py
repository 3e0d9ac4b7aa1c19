"""What objectives over pairs of layers share: which pairs, and how they are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from minilm_lab.models.layer_map import Pairs, check_map, check_pairs, layer_pairs, read_pairs

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def check_layers(map: str, pairs: Optional[Sequence[Sequence[int]]]) -> None:
    """LabError if `objective.map` or `objective.pairs` cannot be right for any pair of models."""
    check_map(map)
    if pairs is not None:
        read_pairs(pairs)


def find_pairs(
    map: str,
    pairs: Optional[Sequence[Sequence[int]]],
    student: PretrainedConfig,
    teacher: PretrainedConfig,
    distilled: int,
) -> Pairs:
    """The (student layer, teacher layer) pairs of an objective: `pairs` if given, else those of `map`.

    Raises:
        LabError: they do not fit these models.
    """
    depth = int(student.num_hidden_layers)
    if pairs is not None:
        return check_pairs(pairs, depth, int(teacher.num_hidden_layers))
    return layer_pairs(map, depth, distilled)


def as_lists(pairs: Pairs) -> list[list[int]]:
    """The pairs as a setting."""
    return [list(pair) for pair in pairs]


def tell(map: str, pairs: Optional[Sequence[Sequence[int]]], usual: bool) -> str:
    """The end of a label: "-" and the map's name, or the pairs as "3to9.3to12" (their number if many); "" if usual."""
    if usual:
        return ""
    if pairs is None:
        return f"-{map}"
    if len(pairs) > 3:
        return f"-{len(pairs)}pairs"
    return "-" + ".".join(f"{ours}to{theirs}" for ours, theirs in pairs)
