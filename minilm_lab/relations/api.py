"""The relation loss: arguments are checked, then a backend does the work."""

from collections.abc import Sequence

import torch
from torch import Tensor

from minilm_lab.relations import blockwise, reference, triton_backend
from minilm_lab.relations.checks import Pair, Relation, check

BACKENDS = ("auto", "reference", "blockwise", "triton")


def relation_kl(
    student: Pair,
    teacher: Pair,
    *,
    heads: int,
    mask: Tensor | None = None,
    causal: bool = False,
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
        backend: one of `BACKENDS`. "reference" materialises the relations; "blockwise" holds one block of them
            and works the gradient out in the forward; "triton" needs a CUDA GPU; "auto" takes the fastest.

    Returns:
        A scalar: float64 if the student is float64, else float32. Sums are kept in that dtype.

    Raises:
        ValueError: an argument is not as described, or the device lacks the backend.
    """
    return relation_kls([(student, teacher, heads)], mask=mask, causal=causal, backend=backend)[0]


def relation_kls(
    pairs: Sequence[Relation], *, mask: Tensor | None = None, causal: bool = False, backend: str = "auto"
) -> Tensor:
    """Several relations of one step at once; on a GPU, one kernel launch for all of them.

    Args:
        pairs: (student, teacher, heads) for each relation, as in `relation_kl`. They share batch, length and
            device.

    Returns:
        (len(pairs),) losses; the other arguments, the dtype and the errors are those of `relation_kl`.
    """
    check(pairs, mask, causal)
    device = pairs[0][0][0].device
    chosen = _choose(backend, device, pairs)
    # The backends choose their own precision; autocast must not lower it.
    with torch.autocast(device.type, enabled=False):
        if chosen == "triton":
            return triton_backend.relation_kls(pairs, mask, causal)
        kl = reference.relation_kl if chosen == "reference" else blockwise.relation_kl
        return torch.stack([kl(student, teacher, heads, mask, causal) for student, teacher, heads in pairs])


def available_backends(device: torch.device) -> tuple[str, ...]:
    """The backends that can run on a device."""
    return ("reference", "blockwise") + (("triton",) if triton_backend.runs_on(device) else ())


def _choose(backend: str, device: torch.device, pairs: Sequence[Relation]) -> str:
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
