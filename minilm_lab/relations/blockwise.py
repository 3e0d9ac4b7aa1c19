"""The relation loss a block at a time, with the gradient worked out in the forward.

A custom op: torch.compile keeps it whole, autograd knows its formula. `blocks.py` has the arithmetic.
"""

import torch
from torch import Tensor

from minilm_lab.relations import blocks
from minilm_lab.relations.masks import accumulator, pieces, sequence_weights


def relation_kl(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    heads: int,
    mask: Tensor | None,
    causal: bool,
) -> Tensor:
    """As `api.relation_kl`, for checked arguments."""
    ours, theirs = _once(student), _once(teacher)
    want_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in ours)
    loss, _ = _op(ours, theirs, heads, mask, causal, want_gradient)
    return loss


def _once(pair: tuple[Tensor, Tensor]) -> list[Tensor]:
    """A symmetric pair is handed over once: its two gradients are one, and cheaper."""
    left, right = pair
    return [left] if left is right else [left, right]


@torch.library.custom_op("minilm_lab::relation_kl_blockwise", mutates_args=())
def _op(
    student: list[Tensor],
    teacher: list[Tensor],
    heads: int,
    mask: Tensor | None,
    causal: bool,
    want_gradient: bool,
) -> tuple[Tensor, list[Tensor]]:
    """The loss, and its gradient for each student tensor if wanted.

    Gradients are kept in the accumulator's dtype until the backward scales them: in float16 they would
    underflow before a loss scaler could save them.
    """
    like = student[0]
    weight = sequence_weights(mask, like) / heads
    if mask is None:
        return blocks.loss_and_gradient(student, teacher, heads, weight, causal, want_gradient)
    loss = weight.new_zeros(())
    gradients = [weight.new_zeros(x.shape) for x in student] if want_gradient else []
    for index in pieces(mask):
        ours = [x.flatten(0, 1)[index] for x in student]
        theirs = [x.flatten(0, 1)[index] for x in teacher]
        some_weight = weight[index[:, 0] // like.shape[1]]
        some_loss, parts = blocks.loss_and_gradient(ours, theirs, heads, some_weight, causal, want_gradient)
        loss += some_loss
        for whole, part in zip(gradients, parts, strict=True):
            whole.flatten(0, 1)[index] = part
    return loss, gradients


@_op.register_fake
def _(
    student: list[Tensor],
    teacher: list[Tensor],
    heads: int,
    mask: Tensor | None,
    causal: bool,
    want_gradient: bool,
) -> tuple[Tensor, list[Tensor]]:
    dtype = accumulator(student[0].dtype)
    gradients = [x.new_empty(x.shape, dtype=dtype) for x in student] if want_gradient else []
    return student[0].new_empty((), dtype=dtype), gradients


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    student = inputs[0]
    ctx.set_materialize_grads(False)
    ctx.dtypes = [x.dtype for x in student]
    ctx.teachers = len(inputs[1])
    ctx.save_for_backward(*output[1])


def _backward(ctx, grad_loss, _grad_gradients):  # type: ignore[no-untyped-def]
    gradients: list[Tensor | None] = [None] * len(ctx.dtypes)
    if grad_loss is not None:
        gradients = [
            (g * grad_loss).to(dtype) for g, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
    return gradients, [None] * ctx.teachers, None, None, None, None


_op.register_autograd(_backward, setup_context=_setup_context)
