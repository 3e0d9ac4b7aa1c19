"""Checks of the arguments: each failure names the argument, its value and what is allowed."""

from collections.abc import Sequence

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)

Pair = tuple[Tensor, Tensor]


def check_pair(name: str, pair: Sequence[Tensor]) -> None:
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
            raise ValueError(f"{name} must hold {_names(FLOATS)} tensors, got {_describe(pair)}")
    if left.shape != right.shape or left.dtype != right.dtype or left.device != right.device:
        raise ValueError(f"{name}: left and right must share shape, dtype and device, got {_describe(pair)}")


def check_heads(heads: int, student: Pair, teacher: Pair) -> None:
    if not isinstance(heads, int) or isinstance(heads, bool) or heads < 1:
        raise ValueError(f"heads must be a positive int, got {heads!r}")
    for name, pair in (("student", student), ("teacher", teacher)):
        width = pair[0].shape[-1]
        if width % heads:
            raise ValueError(f"heads must divide the width of the {name}, {width}; got {heads}")


def check_together(student: Pair, teacher: Pair) -> None:
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


def check_tokens(name: str, value: Tensor | None, like: Tensor, dtypes: tuple[torch.dtype, ...]) -> None:
    """`mask` and `segments` are (batch, length), on the device of the student."""
    if value is None:
        return
    shape = tuple(like.shape[:2])
    if not isinstance(value, Tensor) or value.dtype not in dtypes or tuple(value.shape) != shape:
        raise ValueError(f"{name} must be a {shape} tensor of {_names(dtypes)}, got {_describe(value)}")
    if value.device != like.device:
        raise ValueError(f"{name} must be on the student's device {like.device}, got {value.device}")


def _names(dtypes: tuple[torch.dtype, ...]) -> str:
    return " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{tuple(value.shape)} on {value.device}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}({', '.join(_describe(x) for x in value)})"
    return repr(value)
