"""KL divergence between attention distributions, given as the scores that the models' softmax takes."""

import torch
from torch import Tensor

from minilm_lab.relations.checks import FLOATS, check_mask
from minilm_lab.relations.masks import accumulator, sequence_weights

# Letters of a suffix: B batch, A attention heads, I queries, J keys.


def attention_kl(student_scores: Tensor, teacher_scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """KL divergence between a teacher's attention and a student's (MiniLM, arXiv 2002.10957, eq. 6).

    The same loss as `relation_kl` of queries and keys where scores are QKᵀ/√d: softmax over real keys, KL(teacher ‖
    student) summed over keys, averaged over heads and over the real queries of each sequence, then over the
    sequences that have a real token. For models whose scores have more terms (a relative position bias,
    disentangled attention, rotary positions), which no pair of projections gives.

    A key that a query may not see (a causal model, a sliding window) has score −inf in both models, and adds
    nothing to the loss or to a gradient. If only the student hides a key that the teacher looks at, the divergence
    is infinite.

    Args:
        student_scores: (batch, heads, length, length), query by key; float32, bfloat16, float16 or float64.
        teacher_scores: of the same shape; the dtype may differ. Gets no gradient.
        mask: (batch, length) bool, true = real token; padding is neither query nor key, and what it holds never
            matters. None: every token is real.

    Returns:
        A scalar: float64 if the student's scores are float64, else float32. Sums are kept in that dtype.

    Raises:
        ValueError: an argument is not as described.
    """
    _check(student_scores, teacher_scores, mask)
    dtype = accumulator(student_scores.dtype)
    s_BAIJ, t_BAIJ = student_scores.to(dtype), teacher_scores.detach().to(dtype)
    if mask is not None:
        # Padded queries get a row of zeros: a finite divergence of 0, whatever padding holds.
        query, key = mask[:, None, :, None], mask[:, None, None, :]
        s_BAIJ, t_BAIJ = (x.masked_fill(~key, -torch.inf).masked_fill(~query, 0) for x in (s_BAIJ, t_BAIJ))
    log_p_BAIJ = t_BAIJ.log_softmax(dim=3)
    p_BAIJ = log_p_BAIJ.exp()
    # Where p is 0 the term is 0 and has no gradient of its own; −inf − −inf would be NaN.
    log_ratio_BAIJ = (log_p_BAIJ - s_BAIJ.log_softmax(dim=3)).masked_fill(p_BAIJ == 0, 0)
    kl_BI = (p_BAIJ * log_ratio_BAIJ).sum(dim=3).mean(dim=1)
    if mask is not None:
        kl_BI = kl_BI * mask
    weights_B = sequence_weights(mask, s_BAIJ[:, 0])
    return (kl_BI.sum(dim=1) * weights_B).sum()


def _check(student: Tensor, teacher: Tensor, mask: Tensor | None) -> None:
    for name, scores in (("student_scores", student), ("teacher_scores", teacher)):
        shape = tuple(scores.shape)
        if scores.dim() != 4 or 0 in shape or shape[2] != shape[3] or scores.dtype not in FLOATS:
            raise ValueError(
                f"{name} must be a float (batch, heads, length, length) tensor, got {scores.dtype}{shape}"
            )
    if student.shape != teacher.shape or student.device != teacher.device:
        raise ValueError(
            f"teacher_scores must have the shape and device of student_scores, {tuple(student.shape)} on "
            f"{student.device}; got {tuple(teacher.shape)} on {teacher.device}"
        )
    check_mask(mask, student[:, 0])
