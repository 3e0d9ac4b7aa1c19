"""The arithmetic of the blockwise loss, for stretches of tokens without padding.

Let e = exp(logits) and z its sums over keys, so that a relation is e / z. Only the e of one block is ever as
large as keys x queries, and four things touch it: the product that makes it, exp, the sum, and products with
thin matrices, a head wide. With p the teacher's relation, q the student's, t and s their logits:

    KL_i     = sum_j p_ij t_ij - sum_j p_ij s_ij + log z_s - log z_t
    sum_j p_ij s_ij = left_i . (p @ right)_i / sqrt(d)          from a thin product, no pass over p * s
    d left   = (q @ right - p @ right) / sqrt(d)                the same thin product
    d right  = (q.T @ left - p.T @ left) / sqrt(d)

so neither q - p nor p * (t - s) is ever formed. On a CPU the passes over keys x queries are what costs, and this
takes half the time of softmax, difference and product one after the other. Everything lies features first,
(batch, d, length): with heads 8 wide that is twice as fast as length first, since length is what vectorises.
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
    batch, length, _ = student[0].shape
    plan = plan_blocks(batch, heads, length, weight.dtype, weight.device)
    gradients = [weight.new_empty(x.shape) for x in student] if want_gradient else []
    # Used again by every block: fresh memory costs as much as a pass over it.
    space = weight.new_empty(plan.sequences * plan.heads * plan.queries * length)
    mirrored = (
        len(student) == len(teacher) == 1
        and not causal
        and plan.queries == length
        and weight.device.type == "cpu"
    )
    losses = []
    for samples, some in plan.groups(batch, heads):
        ours = [_features_first(x[samples], heads, some) for x in student]
        theirs = [_features_first(x[samples], heads, some) for x in teacher]
        targets = [_features_first(x[samples], heads, some) for x in gradients]
        group_weight = weight[samples].repeat_interleave(some.stop - some.start)[:, None, None]
        loss = _mirrored(ours[0], theirs[0], group_weight, space, targets) if mirrored else None
        if loss is None:
            mirrored = False
            loss = _general(ours, theirs, group_weight, plan.queries, causal, space, targets)
        losses.append(loss)
    return torch.stack(losses).sum(), gradients


def _features_first(x: Tensor, heads: int, some: slice) -> Tensor:
    """(batch, length, width) -> a view (batch, some heads, head size, length)."""
    return x.unflatten(-1, (heads, -1))[:, :, some].permute(0, 2, 3, 1)


# Below, a tensor is (sequences * heads, head size, length) and a view handed in or out (sequences, heads, head
# size, length); suffix J stands for keys, I for queries. `weight` is (sequences * heads, 1, 1).


def _mirrored(
    x_view: Tensor, y_view: Tensor, weight: Tensor, space: Tensor, targets: list[Tensor]
) -> Tensor | None:
    """The loss of symmetric pairs, student (x, x) and teacher (y, y); the gradient goes into the target.

    e equals its own transpose, so that one product serves both sides. None if a logit is too large for exp
    without a shift, which would break that symmetry.
    """
    batch, size, length = weight.shape[0], x_view.shape[2], x_view.shape[3]
    scale, their_scale = size**-0.5, y_view.shape[2] ** -0.5
    e = space[: batch * length * length].view(batch, length, length)
    # What e is multiplied with lies side by side: [x * factor | x | y].
    stack = space.new_empty(batch, 2 * size + y_view.shape[2], length)
    x, y = stack[:, size : 2 * size], stack[:, 2 * size :]
    x.view(x_view.shape).copy_(x_view)
    y.view(y_view.shape).copy_(y_view)

    their_z = _exp(y, y, their_scale, e).sum(1, keepdim=True)
    if not _in_range(their_z):
        return None
    theirs = _both_sides(stack, size, weight * scale / their_z, e)
    products = theirs[:, size:] * stack[:, size:]
    kl = products[:, size:].sum(1).mul_(their_scale / scale).sub_(products[:, :size].sum(1))

    our_z = _exp(x, x, scale, e).sum(1, keepdim=True)
    if not _in_range(our_z):
        return None
    if targets:
        ours = _both_sides(stack[:, : 2 * size], size, weight * scale / our_z, e).sub_(theirs[:, : 2 * size])
        back, ahead = ours.view(*x_view.shape[:2], 2, *x_view.shape[2:]).unbind(2)
        torch.add(back, ahead, out=targets[0])
    return kl.addcmul_(weight[:, 0], (our_z.log() - their_z.log())[:, 0]).sum()


def _both_sides(stack: Tensor, size: int, factor: Tensor, e: Tensor) -> Tensor:
    """[(x * factor) @ e | (values @ e) * factor], the stack being [room for x * factor | values], x first of them."""
    torch.mul(stack[:, size : 2 * size], factor, out=stack[:, :size])
    both = torch.bmm(stack, e)
    both[:, size:].mul_(factor)
    return both


def _exp(right: Tensor, left: Tensor, scale: float, e: Tensor) -> Tensor:
    return torch.baddbmm(e, right.mT, left, beta=0, alpha=scale, out=e).exp_()


def _in_range(z: Tensor) -> bool:
    low, high = z.aminmax()
    return bool(low >= LEAST) and bool(high <= MOST)


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
    values = torch.cat([right, their_right], dim=1)
    size, length = left.shape[1:]
    scale, their_scale = size**-0.5, their_left.shape[1] ** -0.5
    d_left, d_right = torch.empty_like(left), torch.zeros_like(right)
    losses = []
    for start in range(0, length, queries):
        rows = slice(start, start + queries)
        keys = slice(0, start + queries if causal else length)
        first = start if causal else None
        left_I, their_left_I = left[:, :, rows], their_left[:, :, rows]

        e_JI, their_z_I, their_log_z_I = _shifted_exp(
            their_right[:, :, keys], their_left_I, their_scale, first, space
        )
        p_I = torch.bmm(values[:, :, keys], e_JI).div_(their_z_I)
        kl_I = (p_I[:, size:] * their_left_I).sum(1).mul_(their_scale) - (p_I[:, :size] * left_I).sum(1).mul_(
            scale
        )
        if targets:
            d_right[:, :, keys] -= torch.bmm(left_I * (weight * scale / their_z_I), e_JI.mT)

        e_JI, z_I, log_z_I = _shifted_exp(right[:, :, keys], left_I, scale, first, space)
        if targets:
            d_right[:, :, keys] += torch.bmm(left_I * (weight * scale / z_I), e_JI.mT)
            q_I = torch.bmm(right[:, :, keys], e_JI).div_(z_I)
            torch.mul(q_I.sub_(p_I[:, :size]), weight * scale, out=d_left[:, :, rows])
        losses.append((kl_I.add_(log_z_I - their_log_z_I) * weight[:, 0]).sum())
    parts = [d_left.add_(d_right)] if len(student) == 1 else [d_left, d_right]
    for target, part in zip(targets, parts, strict=False):
        target.copy_(part.view(target.shape))
    return torch.stack(losses).sum()


def _dense(view: Tensor, like: Tensor) -> Tensor:
    return view.to(like.dtype).flatten(0, 1).contiguous()


def _shifted_exp(
    right_J: Tensor, left_I: Tensor, scale: float, first: int | None, space: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """e = exp(logits - shift), its sum over keys, and the log of that sum with the shift back in.

    With `first`, the number of the first query, later keys are hidden from each query.
    """
    batch, keys, queries = right_J.shape[0], right_J.shape[2], left_I.shape[2]
    e_JI = space[: batch * keys * queries].view(batch, keys, queries)
    torch.baddbmm(e_JI, right_J.mT, left_I, beta=0, alpha=scale, out=e_JI)
    if first is not None:
        hidden = torch.ones(keys, queries, dtype=torch.bool, device=e_JI.device).tril(-first - 1)
        e_JI.masked_fill_(hidden, HIDDEN)
    shift_I = e_JI.amax(1, keepdim=True)
    z_I = e_JI.sub_(shift_I).exp_().sum(1, keepdim=True)
    return e_JI, z_I, z_I.log().add_(shift_I)[:, 0]
