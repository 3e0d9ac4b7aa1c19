"""The arithmetic of the blockwise loss, for stretches of tokens without padding.

Let e = exp(logits) and z its sums over keys, so that a relation is e / z. Only the e of one block is ever as
large as queries x keys, and four things touch it: the product that makes it, exp, the sum, and products with
thin matrices, a head wide. With p the teacher's relation, q the student's, t and s their logits:

    KL_i = sum_j p_ij t_ij - sum_j p_ij s_ij + log z_s - log z_t
    sum_j p_ij s_ij = left_i . (p @ right)_i / sqrt(d)          from a thin product, no pass over p * s
    d left  = (q @ right - p @ right) / sqrt(d)                 the same thin product
    d right = (q.T @ left - p.T @ left) / sqrt(d)

so neither q - p nor p * (t - s) is ever formed. On a CPU the passes over queries x keys are what costs, and this
takes half the time of softmax, difference and product one after the other.
"""

import torch
from torch import Tensor

from minilm_lab.relations.plan import plan_blocks

# Without a shift, exp is safe as long as every row's sum stays within exp(+-64): 6e27 leaves room for products
# with activations in float32, and 2e-28 is far from denormal.
LEAST, MOST = 1.6e-28, 6.2e27
# Far below any logit, yet finite: a hidden key gets e = 0 and no NaN.
HIDDEN = -1e30


def loss_and_gradient(
    student: list[Tensor],
    teacher: list[Tensor],
    heads: int,
    weight: Tensor,
    causal: bool,
    want_gradient: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Weighted sum of KL_i over batch, heads and queries, and its gradient for each student tensor.

    Args:
        student, teacher: [left, right], or [x] for a symmetric pair; (batch, length, width).
        weight: (batch,), the weight of each query and head of a sequence, in the accumulator's dtype.
    """
    batch, length, width = student[0].shape
    thin = 2 * (2 * width + teacher[0].shape[2]) // heads
    plan = plan_blocks(batch, heads, length, thin, weight.itemsize, weight.device)
    gradients = [weight.new_empty(x.shape) for x in student] if want_gradient else []
    # Used again by every block: fresh memory costs as much as a pass over it.
    space = weight.new_empty(plan.sequences * plan.heads * plan.queries * length)
    # Elsewhere than on a CPU, looking whether exp needs a shift would make the host wait.
    mirrored = len(student) == len(teacher) == 1 and not causal and plan.queries == length and weight.is_cpu
    losses = []
    for samples, some in plan.groups(batch, heads):
        ours = [_heads_first(x[samples], heads, some) for x in student]
        theirs = [_heads_first(x[samples], heads, some) for x in teacher]
        targets = [_heads_first(x[samples], heads, some) for x in gradients]
        weights = weight[samples, None].expand(-1, some.stop - some.start).reshape(-1, 1, 1)
        loss = _mirrored(ours[0], theirs[0], weights, space, targets) if mirrored else None
        if loss is None:
            mirrored = False
            loss = _general(ours, theirs, weights, plan.queries, causal, space, targets)
        losses.append(loss)
    return torch.stack(losses).sum(), gradients


def _heads_first(x: Tensor, heads: int, some: slice) -> Tensor:
    """(batch, length, width) -> a view (batch, some heads, length, head size)."""
    return x.unflatten(-1, (heads, -1))[:, :, some].transpose(1, 2)


# Below, a tensor is (sequences * heads, length, head size), a view handed in or out (sequences, heads, length,
# head size), and `weight` (sequences * heads, 1, 1). Suffix I stands for queries, J for keys.


def _mirrored(
    x_view: Tensor, y_view: Tensor, weight: Tensor, space: Tensor, targets: list[Tensor]
) -> Tensor | None:
    """The loss of symmetric pairs, student (x, x) and teacher (y, y); its gradient goes into the target.

    e equals its own transpose, so that one product serves both sides. None if a logit is too large for exp
    without a shift, which would break that symmetry.
    """
    batch, length, size = weight.shape[0], *x_view.shape[2:]
    scale, their_scale = size**-0.5, y_view.shape[3] ** -0.5
    e = space[: batch * length * length].view(batch, length, length)
    # What e is multiplied with lies side by side: [x * factor | x | y].
    stack = space.new_empty(batch, length, 2 * size + y_view.shape[3])
    x, y = stack[..., size : 2 * size], stack[..., 2 * size :]
    x.view(x_view.shape).copy_(x_view)
    y.view(y_view.shape).copy_(y_view)

    their_z = _exp(y, y, their_scale, e).sum(1)[
        ..., None
    ]  # The sum over rows vectorises better, and is the same.
    if not _in_range(their_z):
        return None
    theirs = _both_sides(stack, size, weight * scale / their_z, e)
    products = theirs[..., size:] * stack[..., size:]
    kl = products[..., size:].sum(2).mul_(their_scale / scale).sub_(products[..., :size].sum(2))

    our_z = _exp(x, x, scale, e).sum(1)[..., None]
    if not _in_range(our_z):
        return None
    if targets:
        ours = _both_sides(stack[..., : 2 * size], size, weight * scale / our_z, e).sub_(
            theirs[..., : 2 * size]
        )
        torch.add(ours[..., :size].view(x_view.shape), ours[..., size:].view(x_view.shape), out=targets[0])
    return kl.addcmul_(weight[:, 0], (our_z.log() - their_z.log())[..., 0]).sum()


def _both_sides(stack: Tensor, size: int, factor: Tensor, e: Tensor) -> Tensor:
    """[e @ (x * factor) | (e @ values) * factor] for a stack [room for x * factor | values], x first of the values."""
    torch.mul(stack[..., size : 2 * size], factor, out=stack[..., :size])
    both = torch.bmm(e, stack)
    both[..., size:].mul_(factor)
    return both


def _in_range(z: Tensor) -> bool:
    low, high = z.aminmax()
    return bool(low >= LEAST) and bool(high <= MOST)


def _exp(left: Tensor, right: Tensor, scale: float, e: Tensor) -> Tensor:
    return torch.baddbmm(e, left, right.mT, beta=0, alpha=scale, out=e).exp_()


def _general(
    student: list[Tensor],
    teacher: list[Tensor],
    weight: Tensor,
    queries: int,
    causal: bool,
    space: Tensor,
    targets: list[Tensor],
) -> Tensor:
    """The loss of any pairs, some queries at a time; the gradients of left and right go into the targets."""
    left, right = _dense(student[0], space), _dense(student[-1], space)
    their_left, their_right = _dense(teacher[0], space), _dense(teacher[-1], space)
    values = torch.cat([right, their_right], dim=2)
    length, size = left.shape[1:]
    scale, their_scale = size**-0.5, their_left.shape[2] ** -0.5
    d_left, d_right = torch.empty_like(left), torch.zeros_like(right)
    losses = []
    for start in range(0, length, queries):
        rows = slice(start, start + queries)
        keys = slice(0, start + queries if causal else length)
        first = start if causal else None
        left_I, their_left_I = left[:, rows], their_left[:, rows]

        e_IJ, their_z_I, their_log_z_I = _shifted_exp(
            their_left_I, their_right[:, keys], their_scale, first, space
        )
        p_values_I = torch.bmm(e_IJ, values[:, keys]).div_(their_z_I)
        p_right_I, p_their_right_I = p_values_I[..., :size], p_values_I[..., size:]
        kl_I = (p_their_right_I * their_left_I).sum(2).mul_(their_scale) - (p_right_I * left_I).sum(2).mul_(
            scale
        )
        if targets:
            d_right[:, keys] -= torch.bmm(e_IJ.mT, left_I * (weight * scale / their_z_I))

        e_IJ, z_I, log_z_I = _shifted_exp(left_I, right[:, keys], scale, first, space)
        if targets:
            d_right[:, keys] += torch.bmm(e_IJ.mT, left_I * (weight * scale / z_I))
            q_right_I = torch.bmm(e_IJ, right[:, keys]).div_(z_I)
            torch.mul(q_right_I.sub_(p_right_I), weight * scale, out=d_left[:, rows])
        losses.append((kl_I.add_(log_z_I - their_log_z_I) * weight[:, 0]).sum())
    parts = [d_left.add_(d_right)] if len(student) == 1 else [d_left, d_right]
    for target, part in zip(targets, parts, strict=False):
        target.copy_(part.view(target.shape))
    return torch.stack(losses).sum()


def _dense(view: Tensor, like: Tensor) -> Tensor:
    return view.to(like.dtype).flatten(0, 1).contiguous()


def _shifted_exp(
    left_I: Tensor, right_J: Tensor, scale: float, first: int | None, space: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """e = exp(logits - shift), its sum over keys, and the log of that sum with the shift back in.

    With `first`, the number of the first query, later keys are hidden from each query.
    """
    batch, queries, keys = left_I.shape[0], left_I.shape[1], right_J.shape[1]
    e_IJ = space[: batch * queries * keys].view(batch, queries, keys)
    torch.baddbmm(e_IJ, left_I, right_J.mT, beta=0, alpha=scale, out=e_IJ)
    if first is not None:
        hidden = torch.ones(queries, keys, dtype=torch.bool, device=e_IJ.device).triu(first + 1)
        e_IJ.masked_fill_(hidden, HIDDEN)
    shift_I = e_IJ.amax(2, keepdim=True)
    z_I = e_IJ.sub_(shift_I).exp_().sum(2, keepdim=True)
    return e_IJ, z_I, z_I.log().add_(shift_I)[..., 0]
