"""Losses of the next token from hidden states and heads, without ever holding all logits.

Imports torch alone. Shapes: N positions, D hidden size (of student and teacher, each its own), V vocabulary.

Some positions at a time: their logits, the loss, its gradient for the logits, and from that at once the gradients for
hidden states, head and bias, so that nothing N × V is kept for the backward. With z the student's logits, u = z / T,
q = softmax(u), p the teacher's likewise, and g the derivative of the divergence for q (a row at a time):

    d divergence / d u = q (g − Σ q g)          d (T² divergence) / d z = T · that

The products run in the dtype of the hidden states (of autocast, where that is on), as the library's own head does;
logits, losses and gradients of logits are float32, or float64 for float64 inputs. float16 is multiplied in float32: the
gradient of a logit is smaller than float16 can hold.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor

DIVERGENCES = ("forward_kl", "reverse_kl", "jsd", "skew_forward_kl", "skew_reverse_kl")
#: Logits at a time. Fewer: the gradient of the head is gone through more often; more: more memory.
ELEMENTS = 2**23


class Head(NamedTuple):
    """What turns hidden states h into logits: cap · tanh(scale · (h W' + b) / cap), without a cap scale · (h W' + b)."""

    weight: Tensor
    """(V, D)."""
    bias: Tensor | None = None
    """(V,)."""
    scale: float = 1.0
    cap: float | None = None

    def logits(self, hidden: Tensor) -> Tensor:
        """(N, V) of hidden states (N, D), in the accumulator's dtype (see above)."""
        logits = (hidden @ self.weight.to(hidden.dtype).T).to(_accumulator(hidden.dtype))
        if self.bias is not None:
            logits += self.bias
        if self.scale != 1:
            logits *= self.scale
        return logits if self.cap is None else logits.div_(self.cap).tanh_().mul_(self.cap)


class Top(NamedTuple):
    """A teacher's k likeliest next tokens and the rest of its probability: a distribution over k + 1 buckets."""

    ids: Tensor
    """(…, k) int64, from the likeliest on."""
    logs: Tensor
    """(…, k + 1) float16: log-probabilities of these, and of all other tokens together. Rounded: they are normalised anew
    where they are read."""


def top_of(hidden: Tensor, head: Head, count: int, elements: int = ELEMENTS) -> Top:
    """The `count` likeliest next tokens behind hidden states (N, D), without ever holding all logits.

    count: fewer than the vocabulary has.
    """
    ids = torch.empty(len(hidden), count, dtype=torch.long, device=hidden.device)
    logs = torch.empty(len(hidden), count + 1, dtype=torch.float16, device=hidden.device)
    rows = max(1, elements // len(head.weight))
    for start in range(0, len(hidden), rows):
        some = slice(start, start + rows)
        log_p = head.logits(hidden[some]).log_softmax(dim=1)
        near, ids[some] = log_p.topk(count, dim=1)
        rest = log_p.scatter_(1, ids[some], -math.inf).logsumexp(dim=1, keepdim=True)
        logs[some] = torch.cat([near, rest], dim=1).clamp_(min=torch.finfo(torch.float16).min)
    return Top(ids, logs)


class _Options(NamedTuple):
    divergence: str
    mix: float
    temperature: float
    soft_weight: float
    hard_weight: float
    elements: int


def next_token_loss(
    hidden: Tensor,
    head: Head,
    labels: Tensor | None = None,
    teacher: tuple[Tensor, Head] | Top | None = None,
    *,
    divergence: str = "forward_kl",
    mix: float = 0.5,
    temperature: float = 1.0,
    soft_weight: float = 1.0,
    hard_weight: float = 1.0,
    elements: int = ELEMENTS,
) -> tuple[Tensor, Tensor]:
    """Soft and hard loss, weighted, each a mean over positions; 0 without a teacher, without labels, without positions.

    soft = soft_weight · T² · D(teacher, student) at temperature T; hard = hard_weight · cross-entropy with the labels.
    D, with p the teacher's and q the student's distribution:

    - forward_kl: KL(p ‖ q) (Hinton et al. 2015, arXiv 1503.02531); reverse_kl: KL(q ‖ p) (MiniLLM, arXiv 2306.08543);
    - jsd: mix · KL(p ‖ m) + (1 − mix) · KL(q ‖ m), m = mix · p + (1 − mix) · q (GKD, arXiv 2306.13649);
    - skew_forward_kl: KL(p ‖ mix · p + (1 − mix) · q); skew_reverse_kl: KL(q ‖ mix · q + (1 − mix) · p) (DistiLLM,
      arXiv 2402.03898, which takes mix = 0.1).

    Of a `Top` the divergence is that of k + 1 buckets: its tokens, and all others together; at temperature 1 only, since what
    the others would be at another is not known.

    hidden: (N, D) of the positions that count (answers only: leave the others out); labels: int64 (N,), the token
    that follows each; elements: logits at a time.

    The two are to be added: their sum has the gradient for student and head, worked out here, and none of the parts
    has one of its own that means anything. Nothing flows to the teacher.
    """
    if divergence not in DIVERGENCES:
        raise ValueError(f"divergence={divergence}: allowed are {', '.join(DIVERGENCES)}")
    if isinstance(teacher, Top) and temperature != 1:
        raise ValueError("the likeliest tokens are known at temperature 1 only")
    scalar = hidden.new_zeros((), dtype=_accumulator(hidden.dtype))
    if len(hidden) == 0 or (labels is None and teacher is None):
        return scalar + 0 * hidden.sum(), scalar
    trained = (hidden, head.weight, head.bias)
    if not torch.is_grad_enabled():  # autograd tells a function of its inputs alone
        trained = tuple(None if x is None else x.detach() for x in trained)  # type: ignore[assignment]
    total, hard = _NextToken.apply(
        *trained,
        labels if hard_weight else None,
        teacher if soft_weight else None,
        (head.scale, head.cap),
        _Options(divergence, mix, temperature, soft_weight, hard_weight, elements),
    )
    return total - hard, hard


class _NextToken(torch.autograd.Function):
    """(hidden, weight, bias, …) -> (soft + hard, hard without gradient)."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor | None,
        teacher: tuple[Tensor, Head] | Top | None,
        shape: tuple[float, float | None],
        options: _Options,
    ) -> tuple[Tensor, Tensor]:
        device = hidden.device.type
        wide, narrow = _accumulator(hidden.dtype), _dtype_of_products(hidden)
        with torch.autocast(device, enabled=False):
            h = hidden.to(narrow)
            head = Head(weight.to(narrow), bias, *shape)
            theirs = (teacher[0].to(narrow), _narrowed(teacher[1], narrow)) if _is_model(teacher) else None
            d_hidden, d_weight, d_bias = (
                None if x is None or not wanted else x.new_zeros(x.shape, dtype=wide)
                for x, wanted in zip((hidden, weight, bias), ctx.needs_input_grad[:3], strict=True)
            )
            soft, hard = h.new_zeros((2,), dtype=wide).unbind()
            rows = max(1, options.elements // len(weight))
            for start in range(0, len(h), rows):
                some = slice(start, start + rows)
                logits = head.logits(h[some])
                gradient = torch.zeros_like(logits)
                if labels is not None:
                    hard += _cross_entropy(logits, labels[some], options.hard_weight / len(h), gradient)
                if theirs is not None:
                    aims = theirs[1].logits(theirs[0][some])
                    soft += _divergence(logits, aims, options, len(h), gradient)
                elif isinstance(teacher, Top):
                    near = Top(teacher.ids[some], teacher.logs[some])
                    soft += _divergence_of_top(logits, near, options, len(h), gradient)
                if head.cap is not None:
                    gradient *= 1 - (logits / head.cap).square()
                if head.scale != 1:
                    gradient *= head.scale
                if d_bias is not None:
                    d_bias += gradient.sum(dim=0)
                gradient = gradient.to(narrow)
                if d_hidden is not None:
                    d_hidden[some] = gradient @ head.weight
                if d_weight is not None and narrow == wide:
                    d_weight.addmm_(gradient.T, h[some])
                elif d_weight is not None:
                    d_weight += gradient.T @ h[some]
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        ctx.dtypes = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
        ctx.mark_non_differentiable(hard)
        return soft + hard, hard

    @staticmethod
    def backward(ctx: Any, d_total: Tensor, _d_hard: Tensor) -> tuple[Tensor | None, ...]:
        gradients = [
            None if gradient is None else (gradient * d_total).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*gradients, None, None, None, None)


def _cross_entropy(logits: Tensor, labels: Tensor, weight: float, gradient: Tensor) -> Tensor:
    """Sum over rows · weight; its gradient for the logits is added to `gradient`."""
    logs = logits.log_softmax(dim=1)
    loss = -weight * logs.gather(1, labels[:, None]).sum()
    gradient.add_(logs.exp_(), alpha=weight)
    gradient.scatter_add_(1, labels[:, None], gradient.new_full((len(labels), 1), -weight))
    return loss


def _divergence(logits: Tensor, aims: Tensor, options: _Options, positions: int, gradient: Tensor) -> Tensor:
    """The rows' part of the soft loss; its gradient for the student's logits is added to `gradient`."""
    temperature, weight = options.temperature, options.soft_weight / positions
    log_q = (logits / temperature).log_softmax(dim=1)
    log_p = (aims / temperature).log_softmax(dim=1)
    value, slope = _value_and_slope(options.divergence, options.mix, log_p, log_q)
    gradient.add_(slope, alpha=temperature * weight)
    return temperature**2 * weight * value


def _divergence_of_top(
    logits: Tensor, top: Top, options: _Options, positions: int, gradient: Tensor
) -> Tensor:
    """As `_divergence`, of the buckets of `top`. The logit of a bucket is the logsumexp of its tokens' logits, so within the
    last one its gradient is shared out by the student's own probabilities."""
    weight = options.soft_weight / positions
    log_q = logits.log_softmax(dim=1)
    rest = log_q.scatter(1, top.ids, -math.inf).logsumexp(dim=1, keepdim=True)
    buckets = torch.cat([log_q.gather(1, top.ids), rest], dim=1)
    log_p = top.logs.to(logits.dtype).log_softmax(dim=1)
    value, slope = _value_and_slope(options.divergence, options.mix, log_p, buckets)
    shares = (log_q - rest).exp_().mul_(slope[:, -1:])
    gradient.add_(shares.scatter_(1, top.ids, slope[:, :-1]), alpha=weight)
    return weight * value


def _value_and_slope(kind: str, mix: float, log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """D summed over rows, and its gradient for the logits whose log-softmax `log_q` is; all (N, classes)."""
    p, q = log_p.exp(), log_q.exp()
    if kind == "forward_kl":
        return (p * (log_p - log_q)).sum(), q - p
    if kind == "reverse_kl":
        g = log_q - log_p
        value = (q * g).sum()
    elif kind == "jsd":
        log_m = torch.logaddexp(log_p + math.log(mix), log_q + math.log1p(-mix))
        g = (log_q - log_m) * (1 - mix)
        value = mix * (p * (log_p - log_m)).sum() + (q * g).sum()
    elif kind == "skew_forward_kl":
        log_m = torch.logaddexp(log_p + math.log(mix), log_q + math.log1p(-mix))
        value = (p * (log_p - log_m)).sum()
        g = (log_p - log_m).exp_().mul_(mix - 1)
    else:
        log_m = torch.logaddexp(log_q + math.log(mix), log_p + math.log1p(-mix))
        g = log_q - log_m
        value = (q * g).sum()
        g -= mix * (log_q - log_m).exp_()
    return value, q * (g - (q * g).sum(dim=1, keepdim=True))


def _is_model(teacher: tuple[Tensor, Head] | Top | None) -> TypeGuard[tuple[Tensor, Head]]:
    return teacher is not None and not isinstance(teacher, Top)


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _dtype_of_products(hidden: Tensor) -> torch.dtype:
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    return torch.float32 if dtype == torch.float16 else dtype


def _narrowed(head: Head, dtype: torch.dtype) -> Head:
    return head._replace(weight=head.weight.to(dtype))
