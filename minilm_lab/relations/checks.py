"""Checks of the arguments: each failure names the argument, its value and what is allowed."""

from collections.abc import Sequence

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

Pair = tuple[Tensor, Tensor]
#: Student, teacher, relation heads.
Relation = tuple[Pair, Pair, int]


def check(pairs: Sequence[Relation], mask: Tensor | None, causal: bool) -> None:
    """Raise ValueError unless the arguments are as `api.relation_kl` describes them."""
    if not isinstance(pairs, list | tuple) or not pairs:
        raise ValueError(f"pairs must be a non-empty sequence of (student, teacher, heads), got {pairs!r}")
    for student, teacher, heads in pairs:
        _check_pair("student", student)
        _check_pair("teacher", teacher)
        _check_heads(heads, student, teacher)
        _check_together(student, teacher)
    like = pairs[0][0][0]
    for student, _, _ in pairs[1:]:
        if student[0].shape[:2] != like.shape[:2] or student[0].device != like.device:
            raise ValueError(
                f"pairs must share batch, length and device {tuple(like.shape[:2])} on {like.device}, "
                f"got {tuple(student[0].shape[:2])} on {student[0].device}"
            )
    check_mask(mask, like)
    if not isinstance(causal, bool):
        raise ValueError(f"causal must be True or False, got {causal!r}")


def check_mask(mask: Tensor | None, like: Tensor) -> None:
    """A mask is (batch, length) bool, on the device of `like`, (batch, length, …)."""
    if mask is None:
        return
    shape = tuple(like.shape[:2])
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or tuple(mask.shape) != shape:
        raise ValueError(f"mask must be a {shape} tensor of bool, got {_describe(mask)}")
    if mask.device != like.device:
        raise ValueError(f"mask must be on the student's device {like.device}, got {mask.device}")


def _check_pair(name: str, pair: Sequence[Tensor]) -> None:
    """A pair is two (batch, length, width) tensors of one shape, float dtype and device."""
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(x, Tensor) for x in pair):
        raise ValueError(f"{name} must be a (left, right) tuple of two tensors, got {_describe(pair)}")
    left, right = pair
    for x in pair:
        if x.dim() != 3 or 0 in x.shape:
            raise ValueError(
                f"{name} must hold non-empty (batch, length, width) tensors, got {_describe(pair)}"
            )
        if x.dtype not in FLOATS:
            names = " or ".join(str(dtype).removeprefix("torch.") for dtype in FLOATS)
            raise ValueError(f"{name} must hold {names} tensors, got {_describe(pair)}")
    if left.shape != right.shape or left.dtype != right.dtype or left.device != right.device:
        raise ValueError(f"{name}: left and right must share shape, dtype and device, got {_describe(pair)}")


def _check_heads(heads: int, student: Pair, teacher: Pair) -> None:
    if not isinstance(heads, int) or isinstance(heads, bool) or heads < 1:
        raise ValueError(f"heads must be a positive int, got {heads!r}")
    for name, pair in (("student", student), ("teacher", teacher)):
        width = pair[0].shape[-1]
        if width % heads:
            raise ValueError(f"heads must divide the width of the {name}, {width}; got {heads}")


def _check_together(student: Pair, teacher: Pair) -> None:
    """Student and teacher see the same tokens on the same device; widths and dtypes may differ."""
    ours, theirs = student[0], teacher[0]
    if ours.shape[:2] != theirs.shape[:2]:
        raise ValueError(
            f"teacher must have the student's batch and length {tuple(ours.shape[:2])}, "
            f"got {tuple(theirs.shape[:2])}"
        )
    if ours.device != theirs.device:
        raise ValueError(f"teacher must be on the student's device {ours.device}, got {theirs.device}")
    if teacher[0].requires_grad or teacher[1].requires_grad:
        raise ValueError("teacher must not require a gradient; compute it under torch.no_grad() or detach it")


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{tuple(value.shape)} on {value.device}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}({', '.join(_describe(x) for x in value)})"
    return repr(value)
