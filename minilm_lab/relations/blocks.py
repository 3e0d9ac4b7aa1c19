"""The arithmetic of the blockwise loss, for stretches of tokens without padding.

Let t and s be the teacher's and the student's logits, e = exp(t) and z its sums over keys, so that the teacher's
relation is p = e / z; likewise q for the student. With cross_i = sum_j e_ij (t_ij - s_ij):

    KL_i    = cross_i / z_i - log z_i + log z of the student
    d left  = (q @ right - p @ right) / sqrt(d)
    d right = (q.T @ left - p.T @ left) / sqrt(d)

p, q and q - p are never formed: dividing by z after the products touches matrices a head wide instead of a
sequence long. Passes over queries x keys are what costs on a CPU; here they are, for each of the two sides, the
product of the logits, exp, the sum, and the product or products with e, and for the two together t - s, e (t - s)
and its sum. Three blocks of queries x keys are alive. Using the rounded logits themselves in cross makes the value as
exact as that of log-softmax (their rounding cancels in KL), and 0 where student and teacher agree.

Half-precision inputs are multiplied in float32, on CPUs with bfloat16 instructions too. Measured with AMX, products
in bfloat16 save a sixth of the time at 12 heads and lose a tenth at 48, where heads are 8 wide; and they return
logits, or take e, rounded to eight bits.
"""

import math

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
    plan = plan_blocks(batch, heads, length, weight.itemsize, weight.device)
    gradients = [weight.new_empty(x.shape) for x in student] if want_gradient else []
    # Used again by every block: fresh memory costs as much as a pass over it.
    space = weight.new_empty(3, plan.sequences * plan.heads * plan.queries * length)
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
    scale = size**-0.5
    t, e, s = space[:, : batch * length * length].view(3, batch, length, length).unbind()
    # What e is multiplied with lies side by side: [x * factor | x].
    stack = space.new_empty(batch, length, 2 * size)
    x, y = stack[..., size:], _dense(y_view, space)
    x.view(x_view.shape).copy_(x_view)

    torch.exp(_logits(y, y, t), out=e)
    their_z = e.sum(1)[..., None]  # The sum over rows vectorises better, and is the same.
    if not _in_range(their_z):
        return None
    theirs = _both_sides(stack, size, weight * scale / their_z, e) if targets else None
    t.sub_(_logits(x, x, s))
    cross = e.mul_(t).sum(2, keepdim=True)

    our_z = s.exp_().sum(1)[..., None]
    if not _in_range(our_z):
        return None
    if theirs is not None:
        ours = _both_sides(stack, size, weight * scale / our_z, s).sub_(theirs)
        torch.add(ours[..., :size].view(x_view.shape), ours[..., size:].view(x_view.shape), out=targets[0])
    return (weight * (cross.div_(their_z) - their_z.log() + our_z.log())).sum()


def _both_sides(stack: Tensor, size: int, factor: Tensor, e: Tensor) -> Tensor:
    """[e @ (x * factor) | (e @ x) * factor] for a stack [room for x * factor | x]."""
    torch.mul(stack[..., size:], factor, out=stack[..., :size])
    both = torch.bmm(e, stack)
    both[..., size:].mul_(factor)
    return both


def _in_range(z: Tensor) -> bool:
    low, high = z.aminmax()
    return low.item() >= LEAST and high.item() <= MOST


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
    batch, length, size = left.shape
    weight_I = weight * size**-0.5
    d_left, d_right = torch.empty_like(left), torch.zeros_like(right)
    losses = []
    for start in range(0, length, queries):
        rows = slice(start, min(start + queries, length))
        keys = slice(0, rows.stop if causal else length)
        shape = (3, batch, rows.stop - start, keys.stop)
        t_IJ, e_IJ, s_IJ = space[:, : math.prod(shape[1:])].view(shape).unbind()
        left_I, right_J = left[:, rows], right[:, keys]
        _logits(their_left[:, rows], their_right[:, keys], t_IJ)
        _logits(left_I, right_J, s_IJ)
        if causal:
            hidden = torch.ones(shape[2:], dtype=torch.bool, device=space.device).triu(start + 1)
            t_IJ.masked_fill_(hidden, HIDDEN)
            s_IJ.masked_fill_(hidden, HIDDEN)
        # With their maxima subtracted, logits cannot overflow exp, and cross and log z stay small.
        t_IJ -= t_IJ.amax(2, keepdim=True)
        s_IJ -= s_IJ.amax(2, keepdim=True)
        their_z_I = torch.exp(t_IJ, out=e_IJ).sum(2, keepdim=True)
        if targets:
            factor_I = weight_I / their_z_I
            d_right[:, keys] -= torch.bmm(e_IJ.mT, left_I * factor_I)
            torch.mul(torch.bmm(e_IJ, right_J), factor_I, out=d_left[:, rows]).neg_()
        cross_I = e_IJ.mul_(t_IJ.sub_(s_IJ)).sum(2, keepdim=True).div_(their_z_I)
        z_I = s_IJ.exp_().sum(2, keepdim=True)
        if targets:
            factor_I = weight_I / z_I
            d_right[:, keys] += torch.bmm(s_IJ.mT, left_I * factor_I)
            d_left[:, rows] += torch.bmm(s_IJ, right_J).mul_(factor_I)
        losses.append((weight * (cross_I - their_z_I.log() + z_I.log())).sum())
    parts = [d_left.add_(d_right)] if len(student) == 1 else [d_left, d_right]
    for target, part in zip(targets, parts, strict=False):
        target.copy_(part.view(target.shape))
    return torch.stack(losses).sum()


def _dense(view: Tensor, like: Tensor) -> Tensor:
    """(sequences, heads, length, size) -> (sequences * heads, length, size), copied only where it must be."""
    return view.to(like.dtype).flatten(0, 1)


def _logits(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    return torch.baddbmm(out, left, right.mT, beta=0, alpha=left.shape[2] ** -0.5, out=out)
