"""The definition, written as plainly as possible: every relation matrix is materialised.

For tests and for reading. Memory grows with batch * heads * length^2.
"""

import math

import torch
from torch import Tensor

from minilm_lab.relations.masks import accumulator, sequence_weights

# Letters of a suffix: B batch, A relation heads, I queries, J keys, D width of a head.


def relation_kl(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    heads: int,
    mask: Tensor | None,
    causal: bool,
) -> Tensor:
    """As `api.relation_kl`, for checked arguments."""
    length = student[0].shape[1]
    allowed = torch.ones(1, length, length, dtype=torch.bool, device=student[0].device)
    if causal:
        allowed = allowed.tril()
    if mask is not None:
        # Whatever padding holds, NaN included, neither the loss nor a gradient may notice.
        allowed = (allowed & mask[:, None, :]) | ~mask[:, :, None]
        student, teacher = _without_padding(student, mask), _without_padding(teacher, mask)
    allowed_B1IJ = allowed[:, None]
    with torch.no_grad():
        log_p_BAIJ = _log_relation(*teacher, heads, allowed_B1IJ)
    log_q_BAIJ = _log_relation(*student, heads, allowed_B1IJ)
    log_ratio_BAIJ = (log_p_BAIJ - log_q_BAIJ).masked_fill(~allowed_B1IJ, 0)
    kl_BI = (log_p_BAIJ.exp() * log_ratio_BAIJ).sum(dim=3).mean(dim=1)
    if mask is not None:
        kl_BI = kl_BI * mask
    return (kl_BI.sum(dim=1) * sequence_weights(mask, student[0])).sum()


def _log_relation(left: Tensor, right: Tensor, heads: int, allowed_B1IJ: Tensor) -> Tensor:
    left_BAID, right_BAJD = _split(left, heads), _split(right, heads)
    logits_BAIJ = left_BAID @ right_BAJD.mT / math.sqrt(left_BAID.shape[-1])
    return logits_BAIJ.masked_fill(~allowed_B1IJ, -torch.inf).log_softmax(dim=-1)


def _split(x: Tensor, heads: int) -> Tensor:
    return x.to(accumulator(x.dtype)).unflatten(-1, (heads, -1)).transpose(1, 2)


def _without_padding(pair: tuple[Tensor, Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
    left, right = (x.masked_fill(~mask[:, :, None], 0) for x in pair)
    return left, right
