"""Learned maps from the student's width to the teacher's: trained with the student, thrown away afterwards."""

from __future__ import annotations

from torch import Tensor, nn


def lifts_between(name: str, ours: int, theirs: int, bias: bool) -> nn.ModuleDict:
    """{name: linear map from width `ours` to width `theirs`}, drawn by torch's default rule; empty if they are equal."""
    return nn.ModuleDict() if ours == theirs else nn.ModuleDict({name: nn.Linear(ours, theirs, bias)})


def lifted(x: Tensor, name: str, lifts: nn.ModuleDict) -> Tensor:
    """(…, width of the student) through the lift of that name, if there is one."""
    lifted: Tensor = lifts[name](x) if name in lifts else x
    return lifted
