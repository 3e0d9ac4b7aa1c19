"""The relation loss in Triton: what autograd and torch.compile have to know of it.

Nothing here imports Triton: `triton_launch` does, when first used, so that the package needs torch alone.
"""

import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from minilm_lab.relations.checks import Pair, Relation
from minilm_lab.relations.masks import sequence_weights

LARGEST_HEAD = 128


def runs_on(device: torch.device) -> bool:
    """Triton is installed, and the device is a GPU or Triton interprets its kernels (TRITON_INTERPRET=1)."""
    if importlib.util.find_spec("triton") is None:
        return False
    return device.type == "cuda" or (device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1")


def obstacle(pairs: Sequence[Relation]) -> str | None:
    """Why these pairs are beyond the kernels, or None."""
    for student, teacher, heads in pairs:
        for x in (student[0], teacher[0]):
            if x.dtype == torch.float64:
                return "float64"
            if x.shape[2] // heads > LARGEST_HEAD:
                return f"heads of {x.shape[2] // heads} features, more than {LARGEST_HEAD}"
    return None


def relation_kls(pairs: Sequence[Relation], mask: Tensor | None, causal: bool) -> Tensor:
    """As `api.relation_kls`, for checked arguments. Relations of one shape and kind share a launch."""
    alike: dict[Any, list[int]] = {}
    for number, (student, teacher, heads) in enumerate(pairs):
        symmetric = student[0] is student[1] and teacher[0] is teacher[1]
        alike.setdefault((heads, symmetric, _kind(student), _kind(teacher)), []).append(number)
    weights = sequence_weights(mask, pairs[0][0][0])
    mask = None if mask is None else mask.contiguous()
    losses: dict[int, Tensor] = {}
    for (heads, symmetric, _, _), numbers in alike.items():
        ours = _same_layout([pairs[n][0] for n in numbers], symmetric)
        theirs = _same_layout([pairs[n][1] for n in numbers], symmetric)
        some, _, _ = _forward(*ours, *theirs, weights / heads, heads, mask, causal)
        losses.update(zip(numbers, some.unbind(), strict=True))
    return torch.stack([losses[n] for n in range(len(pairs))])


def _kind(pair: Pair) -> tuple[int, torch.dtype]:
    return pair[0].shape[2], pair[0].dtype


def _same_layout(pairs: Sequence[Pair], symmetric: bool) -> tuple[list[Tensor], list[Tensor]]:
    """The left and right sides with one set of strides, copied only if theirs differ. Symmetric: no right sides.

    Tensors of inference mode are copied too: autograd refuses to save them.
    """
    lefts = [_savable(left) for left, _ in pairs]
    rights = [] if symmetric else [_savable(right) for _, right in pairs]
    strides = {x.stride() for x in (*lefts, *rights)}
    if len(strides) > 1 or strides.pop()[2] != 1:
        lefts, rights = [x.contiguous() for x in lefts], [x.contiguous() for x in rights]
    return lefts, rights


def _savable(x: Tensor) -> Tensor:
    # torch.compile cannot ask, and its graphs hold no tensors of inference mode.
    return x.clone() if not torch.compiler.is_compiling() and x.is_inference() else x


@torch.library.custom_op("minilm_lab::relation_kl_triton", mutates_args=())
def _forward(
    lefts: list[Tensor],
    rights: list[Tensor],
    their_lefts: list[Tensor],
    their_rights: list[Tensor],
    weights: Tensor,
    heads: int,
    mask: Tensor | None,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses (relations,), and the base-2 log-sum-exps (relations, batch, heads, length) of student and teacher.

    Args:
        rights, their_rights: empty if the pairs are symmetric.
        weights: (batch,), the weight of each query and head of a sequence.
    """
    from minilm_lab.relations.triton_launch import Launch

    return Launch(lefts, their_lefts, heads, mask, causal).forward(rights, their_rights, weights)


@_forward.register_fake
def _(lefts, rights, their_lefts, their_rights, weights, heads, mask, causal):  # type: ignore[no-untyped-def]
    lse = weights.new_empty(len(lefts), *lefts[0].shape[:1], heads, lefts[0].shape[1])
    return weights.new_empty(len(lefts)), lse, torch.empty_like(lse)


@torch.library.custom_op("minilm_lab::relation_kl_triton_backward", mutates_args=())
def _gradients(
    grad_losses: Tensor,
    lefts: list[Tensor],
    rights: list[Tensor],
    their_lefts: list[Tensor],
    their_rights: list[Tensor],
    weights: Tensor,
    s_lse: Tensor,
    t_lse: Tensor,
    heads: int,
    mask: Tensor | None,
    causal: bool,
) -> Tensor:
    """(sides, relations, batch, length, width): one side if the pairs are symmetric, else left and right."""
    from minilm_lab.relations.triton_launch import Launch

    launch = Launch(lefts, their_lefts, heads, mask, causal)
    return launch.backward(grad_losses.contiguous(), rights, their_rights, weights, s_lse, t_lse)


@_gradients.register_fake
def _(  # type: ignore[no-untyped-def]
    grad_losses,
    lefts,
    rights,
    their_lefts,
    their_rights,
    weights,
    s_lse,
    t_lse,
    heads,
    mask,
    causal,
):
    return lefts[0].new_empty(2 if rights else 1, len(lefts), *lefts[0].shape)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    lefts, rights, their_lefts, their_rights, weights, heads, mask, causal = inputs
    ctx.set_materialize_grads(False)
    ctx.relations, ctx.symmetric, ctx.their_symmetric = len(lefts), not rights, not their_rights
    ctx.heads, ctx.causal = heads, causal
    tensors = (*lefts, *rights, *their_lefts, *their_rights, weights, *output[1:], mask)
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad_losses, _grad_s_lse, _grad_t_lse):  # type: ignore[no-untyped-def]
    n, sides = ctx.relations, 1 if ctx.symmetric else 2
    nothing = [[None] * n, [None] * n * (sides - 1)]
    if grad_losses is None:
        return *nothing, *nothing, None, None, None, None
    *saved, weights, s_lse, t_lse, mask = ctx.saved_tensors
    ours, theirs = saved[: n * sides], saved[n * sides :]
    gradients = _gradients(
        grad_losses, ours[:n], ours[n:], theirs[:n], theirs[n:], weights, s_lse, t_lse,
        ctx.heads, mask, ctx.causal,
    )  # fmt: skip
    lefts, rights = list(gradients[0].unbind()), [x for side in gradients[1:] for x in side.unbind()]
    return lefts, rights, *nothing, None, None, None, None


_forward.register_autograd(_backward, setup_context=_setup_context)
