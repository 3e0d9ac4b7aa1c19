"""Which teacher layer a student layer learns from."""

from __future__ import annotations

from collections.abc import Sequence

from minilm_lab.errors import LabError, nearest

#: last: the student's last layer learns the distilled layer, alone (MiniLM, arXiv 2002.10957, section 3.1).
#: uniform: student layer m of M learns teacher layer m · L / M (TinyBERT, arXiv 1909.10351, section 3.2),
#: rounded where M does not divide L. top: the M layers that end at the distilled one, in their order.
MAPS = ("last", "uniform", "top")

Pairs = list[tuple[int, int]]
"""(student layer, teacher layer), both counted from 1."""


def check_map(name: str) -> None:
    """Raise LabError unless `name` is a map."""
    if name not in MAPS:
        raise LabError(
            f"objective.map={name}: no such map.{nearest(name, MAPS)} Allowed are {', '.join(MAPS)}"
        )


def layer_pairs(name: str, student_layers: int, distilled: int) -> Pairs:
    """The pairs of a named map, from the first student layer that has one to the last.

    Args:
        name: one of `MAPS`.
        student_layers: the student's depth M.
        distilled: the teacher layer L that the student's last layer learns from.

    Raises:
        LabError: there is no such map, or the student has more layers than there are up to the distilled one.
    """
    check_map(name)
    if name == "last":
        return [(student_layers, distilled)]
    if student_layers > distilled:
        raise LabError(
            f"objective.map={name} gives each of the student's {student_layers} layers a teacher layer of its own, "
            f"but there are only {distilled} up to the distilled one; use objective.map=last, student.layers of at "
            f"most {distilled}, or objective.pairs=[[student layer, teacher layer], …]"
        )
    if name == "top":
        return [(m, distilled - student_layers + m) for m in range(1, student_layers + 1)]
    return list(enumerate(uniform(student_layers, distilled), 1))


def uniform(depth: int, whole: int) -> list[int]:
    """`depth` layers of `whole`, from 1, evenly spread and ending at the last."""
    return [round(m * whole / depth) for m in range(1, depth + 1)]


def read_pairs(pairs: Sequence[Sequence[int]]) -> Pairs:
    """Pairs given in place of a map; LabError if they cannot be right for any pair of models."""
    if not pairs:
        raise LabError(
            "objective.pairs=[] gives no layer; write [[student layer, teacher layer], …], or null for objective.map"
        )
    read: Pairs = []
    for pair in pairs:
        if len(pair) != 2:
            raise LabError(f"objective.pairs has {list(pair)}: write [student layer, teacher layer]")
        read.append((pair[0], pair[1]))
    for ours, theirs in read:
        if min(ours, theirs) < 1:
            raise LabError(f"objective.pairs has {[ours, theirs]}: layers are counted from 1")
        if read.count((ours, theirs)) > 1:
            raise LabError(f"objective.pairs names {[ours, theirs]} twice")
    return read


def check_pairs(pairs: Sequence[Sequence[int]], student_layers: int, teacher_layers: int) -> Pairs:
    """Pairs given in place of a map, for a student and a teacher of so many layers.

    Several pairs may share a student layer (it learns from several teacher layers at once) or a teacher layer.

    Raises:
        LabError: a pair is malformed, given twice, or names a layer that a model does not have.
    """
    read = read_pairs(pairs)
    for ours, theirs in read:
        for whose, layer, depth in (("student", ours, student_layers), ("teacher", theirs, teacher_layers)):
            if layer > depth:
                raise LabError(
                    f"objective.pairs has {[ours, theirs]}: {whose} layer {layer} is outside 1..{depth}, the "
                    f"layers of the {whose}"
                )
    return read
