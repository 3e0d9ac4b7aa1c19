"""Distances between what two models put out at the real tokens: tensors in, a float32 scalar out.

Inputs may be of any float dtype and of one each; sums are kept in float32 (float64 for float64). Without a real token
a distance is 0, with a gradient of 0. What padding holds never matters.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def widened(x: Tensor) -> Tensor:
    """`x` in float32, or as it is in float64: what autocast left in half precision is summed in full."""
    return x if x.dtype == torch.float64 else x.float()


def token_mse(student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
    """Mean square difference over real tokens and dimensions.

    student, teacher: (batch, length, width); mask: (batch, length) bool, true = real token, None when all are.
    """
    difference = widened(student) - widened(teacher)
    if mask is None:
        return difference.square().mean()
    difference = difference.masked_fill(~mask[:, :, None], 0)
    return difference.square().sum() / (mask.sum() * student.shape[2]).clamp(min=1)


def token_cosine(student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
    """1 − cosine of the angle between the models' vectors, mean over real tokens; shapes as in `token_mse`."""
    ours, theirs = widened(student), widened(teacher)
    if mask is None:
        return (1 - F.cosine_similarity(ours, theirs, dim=2)).mean()
    hidden = ~mask[:, :, None]
    cosine = F.cosine_similarity(ours.masked_fill(hidden, 1), theirs.masked_fill(hidden, 1), dim=2)
    return (1 - cosine).masked_fill(~mask, 0).sum() / mask.sum().clamp(min=1)


def score_mse(student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
    """Mean square difference of attention scores over heads and over pairs of a real query and a real key.

    A pair that either model hides from its softmax (score −inf) is left out.

    student, teacher: (batch, heads, query length, key length); mask as in `token_mse`.
    """
    hidden = (student == -torch.inf) | (teacher == -torch.inf)
    if mask is not None:
        hidden = hidden | ~(mask[:, None, :, None] & mask[:, None, None, :])
    difference = widened(student).masked_fill(hidden, 0) - widened(teacher).masked_fill(hidden, 0)
    return difference.square().sum() / (~hidden).sum().clamp(min=1)
