"""The relation loss: arguments are checked, then a backend does the work."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from minilm_lab.relations import blockwise, checks, reference, triton_backend
from minilm_lab.relations.checks import Pair

BACKENDS = ("auto", "reference", "blockwise", "triton")


def relation_kl(
    student: Pair,
    teacher: Pair,
    *,
    heads: int,
    mask: Tensor | None = None,
    causal: bool = False,
    segments: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """KL divergence between a teacher's relation and a student's (MiniLM, arXiv 2002.10957, eq. 6 and 9).

    With the width split into `heads` relation heads of size d (MiniLMv2, arXiv 2012.15828, section 3.1), a
    relation is `R = softmax(left @ right.T / sqrt(d))` over the keys that a query may see. The loss is
    `KL(R_teacher || R_student)` summed over keys, averaged over heads and over the real queries of each
    sequence, then over the sequences. A sequence without a real token contributes nothing and is not counted
    among the sequences; if there is no real token at all, the loss is 0 (and so is its gradient).

    Args:
        student: (left, right), each (batch, length, width); last dimension contiguous, otherwise strided at will
            (a chunk of a fused projection needs no copy). Give one and the same tensor twice for a symmetric
            relation such as (V, V): that is cheaper. float32, bfloat16, float16 or float64.
        teacher: likewise, with the same batch and length; width and dtype may differ. Gets no gradient.
        heads: relation heads; must divide both widths.
        mask: (batch, length) bool, true = real token. Padding, on any side, is neither key nor query, and
            what it holds never matters. None: every token is real.
        causal: a query sees no later key.
        segments: (batch, length) integers; a query sees only keys with its own number (packed rows).
        backend: one of `BACKENDS`. "reference" materialises the relations; "blockwise" holds one block of them
            and works the gradient out in the forward; "triton" needs a CUDA GPU; "auto" takes the fastest.

    Returns:
        A scalar: float64 if the student is float64, else float32. Sums are kept in that dtype.

    Raises:
        ValueError: an argument is not as described, or the device lacks the backend.
    """
    pairs = [(student, teacher, heads)]
    return relation_kls(pairs, mask=mask, causal=causal, segments=segments, backend=backend)[0]


def relation_kls(
    pairs: Sequence[tuple[Pair, Pair, int]],
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    segments: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Several relations of one step at once; on a GPU, one kernel launch for all of them.

    Args:
        pairs: (student, teacher, heads) for each relation, as in `relation_kl`. They share batch, length and
            device.

    Returns:
        (len(pairs),) losses; the other arguments, the dtype and the errors are those of `relation_kl`.
    """
    _check(pairs, mask, causal, segments)
    like = pairs[0][0][0]
    run = _RUN[_choose(backend, like.device, pairs)]
    # The backends choose their own precision; autocast must not lower it.
    with torch.autocast(like.device.type, enabled=False):
        return run(pairs, mask, causal, segments)


def available_backends(device: torch.device) -> tuple[str, ...]:
    """The backends that can run on a device."""
    return ("reference", "blockwise") + (("triton",) if triton_backend.runs_on(device) else ())


def _choose(backend: str, device: torch.device, pairs: Sequence[tuple[Pair, Pair, int]]) -> str:
    possible = available_backends(device)
    if backend not in ("auto", *possible):
        raise ValueError(f"backend must be one of {('auto', *possible)} on {device}, got {backend!r}")
    obstacle = triton_backend.obstacle(pairs)
    if backend == "triton" and obstacle:
        raise ValueError(f"backend 'triton' does not take {obstacle}; use 'auto', 'blockwise' or 'reference'")
    if backend == "auto":
        # Triton's interpreter, which runs on a CPU, is for tests.
        return "triton" if device.type == "cuda" and "triton" in possible and not obstacle else "blockwise"
    return backend


def _check(
    pairs: Sequence[tuple[Pair, Pair, int]], mask: Tensor | None, causal: bool, segments: Tensor | None
) -> None:
    if not isinstance(pairs, list | tuple) or not pairs:
        raise ValueError(f"pairs must be a non-empty sequence of (student, teacher, heads), got {pairs!r}")
    for student, teacher, heads in pairs:
        checks.check_pair("student", student)
        checks.check_pair("teacher", teacher)
        checks.check_heads(heads, student, teacher)
        checks.check_together(student, teacher)
    like = pairs[0][0][0]
    for student, _, _ in pairs[1:]:
        if student[0].shape[:2] != like.shape[:2] or student[0].device != like.device:
            raise ValueError(
                f"pairs must share batch, length and device {tuple(like.shape[:2])} on {like.device}, "
                f"got {tuple(student[0].shape[:2])} on {student[0].device}"
            )
    checks.check_tokens("mask", mask, like, (torch.bool,))
    checks.check_tokens("segments", segments, like, checks.INTEGERS)
    if not isinstance(causal, bool):
        raise ValueError(f"causal must be True or False, got {causal!r}")


def _one_by_one(relation_kl: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A backend of one relation as one of several."""

    def relation_kls(pairs: Sequence[tuple[Pair, Pair, int]], *settings: object) -> Tensor:
        return torch.stack(
            [relation_kl(student, teacher, heads, *settings) for student, teacher, heads in pairs]
        )

    return relation_kls


_RUN = {
    "reference": _one_by_one(reference.relation_kl),
    "blockwise": _one_by_one(blockwise.relation_kl),
    "triton": triton_backend.relation_kls,
}
