"""The loss as nested Python loops over samples, heads and queries in float64: shares no code with the package."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def loop_loss(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    heads: int,
    mask: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """KL(teacher || student) of each query, averaged over heads and real queries, then over sequences."""
    batch, length = student[0].shape[:2]
    of_sequences = []
    for b in range(batch):
        real = [i for i in range(length) if mask is None or bool(mask[b, i])]
        if not real:
            continue
        of_queries = []
        for i in real:
            keys = [j for j in real if not causal or j <= i]
            for h in range(heads):
                log_p = _log_relation(teacher, heads, b, h, i, keys)
                log_q = _log_relation(student, heads, b, h, i, keys)
                of_queries.append((log_p.exp() * (log_p - log_q)).sum())
        of_sequences.append(torch.stack(of_queries).sum() / (heads * len(real)))
    if not of_sequences:
        return 0.0 * sum(x.sum() for x in student)
    return torch.stack(of_sequences).mean()


def _log_relation(pair: tuple[Tensor, Tensor], heads: int, b: int, h: int, i: int, keys: list[int]) -> Tensor:
    size = pair[0].shape[2] // heads
    columns = slice(h * size, (h + 1) * size)
    logits = pair[1][b, keys, columns] @ pair[0][b, i, columns] / math.sqrt(size)
    return logits - torch.logsumexp(logits, dim=0)


def loop_loss_and_gradients(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], heads: int, **settings: object
) -> tuple[Tensor, list[Tensor]]:
    """The loss, and its gradient for each different student tensor."""
    exact = {id(x): x.detach().double().requires_grad_() for x in student}
    ours = (exact[id(student[0])], exact[id(student[1])])
    loss = loop_loss(ours, (teacher[0].double(), teacher[1].double()), heads, **settings)  # type: ignore[arg-type]
    return loss.detach(), list(torch.autograd.grad(loss, list(exact.values())))
