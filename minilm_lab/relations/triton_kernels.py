"""The Triton kernels: nothing of length x length leaves a core's registers.

A program holds a block of `own` rows and walks over blocks of `other` rows. Logits are kept in base 2 (times
log2 e), so that exp2 serves. A (rows, size) tile is padded to a power of two of at least 16, as `tl.dot` needs.
Rows that are padding or beyond the length load as 0, so whatever they hold cannot spread.
"""

# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

HIDDEN = tl.constexpr(-1e30)  # Finite, so that a row of hidden keys makes no NaN.
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _pick(pointers, index):
    """pointers[index] for a tuple and an index known only at run time."""
    picked = pointers[0]
    for i in tl.static_range(1, len(pointers)):
        picked = tl.where(index == i, pointers[i], picked)
    return picked


@triton.jit
def _tokens(start, mask, base, length, BLOCK: tl.constexpr, MASK: tl.constexpr):
    """Positions of a block, and whether each is a real token."""
    position = start + tl.arange(0, BLOCK)
    real = position < length
    if MASK:
        real = real & (tl.load(mask + base + position, mask=real, other=0) != 0)
    return position, real


@triton.jit
def _rows(pointer, position, real, stride, size, BLOCK: tl.constexpr):
    """The (positions, size) tile of a head."""
    column = tl.arange(0, BLOCK)
    return tl.load(
        pointer + position[:, None] * stride + column[None, :],
        mask=real[:, None] & (column < size)[None, :],
        other=0.0,
    )


@triton.jit
def _visible(query, real_query, key, real_key, CAUSAL: tl.constexpr):
    """Whether a query sees a key; the arguments are shaped to broadcast to the tile."""
    visible = real_query & real_key
    if CAUSAL:
        visible = visible & (query >= key)
    return visible


@triton.jit
def _grow(total, highest, logits, visible):
    """One step of an online sum of exp2: returns exp2 of the tile, the factor for what was summed before, both totals."""
    logits = tl.where(visible, logits, HIDDEN)
    higher = tl.maximum(highest, tl.max(logits, 1))
    e = tl.where(visible, tl.exp2(logits - higher[:, None]), 0.0)
    fade = tl.exp2(highest - higher)
    return e, fade, total * fade + tl.sum(e, 1), higher


@triton.jit
def _forward_tile(s, t, visible, our_total, our_highest, their_total, their_highest, cross):
    """Takes one tile of logits into the running sums."""
    _, _, our_total, our_highest = _grow(our_total, our_highest, s, visible)
    e, fade, their_total, their_highest = _grow(their_total, their_highest, t, visible)
    cross = cross * fade + tl.sum(e * tl.where(visible, t - s, 0.0), 1)
    return our_total, our_highest, their_total, their_highest, cross


@triton.jit
def _log(total, highest):
    return tl.where(total > 0, highest + tl.log2(tl.where(total > 0, total, 1.0)), 0.0)


@triton.jit
def forward(
    s_left, s_right, t_left, t_right,  # tuples: one pointer a relation
    mask, weights,
    s_lse, t_lse, partial,
    length, heads, blocks,
    s_stride_batch, s_stride, t_stride_batch, t_stride,
    s_size, t_size, s_scale, t_scale,
    CAUSAL: tl.constexpr, MASK: tl.constexpr,
    OWN: tl.constexpr, OTHER: tl.constexpr, S_BLOCK: tl.constexpr, T_BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Log-sum-exp of every row of both relations, and the program's share of the loss.

    Grid: (blocks of queries * batch * heads, relations).
    """
    index, relation = tl.program_id(0), tl.program_id(1)
    sample_head = index // blocks
    sample, head = (sample_head // heads).to(tl.int64), sample_head % heads
    s_offset, t_offset = sample * s_stride_batch + head * s_size, sample * t_stride_batch + head * t_size
    s_keys, t_keys = _pick(s_right, relation) + s_offset, _pick(t_right, relation) + t_offset

    first = (index % blocks) * OWN
    query, real_query = _tokens(first, mask, sample * length, length, OWN, MASK)
    s_own = _rows(_pick(s_left, relation) + s_offset, query, real_query, s_stride, s_size, S_BLOCK)
    t_own = _rows(_pick(t_left, relation) + t_offset, query, real_query, t_stride, t_size, T_BLOCK)

    our_total, their_total = tl.zeros([OWN], tl.float32), tl.zeros([OWN], tl.float32)
    our_highest, their_highest = tl.full([OWN], HIDDEN, tl.float32), tl.full([OWN], HIDDEN, tl.float32)
    cross = tl.zeros([OWN], tl.float32)
    last = tl.minimum(length, first + OWN) if CAUSAL else length
    for start in range(0, last, OTHER):
        key, real_key = _tokens(start, mask, sample * length, length, OTHER, MASK)
        visible = _visible(query[:, None], real_query[:, None], key[None, :], real_key[None, :], CAUSAL)
        needed = True
        if MASK:  # Padding: whole tiles may be empty.
            needed = tl.max(tl.max(visible.to(tl.int32), 1), 0) > 0
        if needed:
            s_other = _rows(s_keys, key, real_key, s_stride, s_size, S_BLOCK)
            t_other = _rows(t_keys, key, real_key, t_stride, t_size, T_BLOCK)
            s = tl.dot(s_own, tl.trans(s_other), input_precision=PRECISION) * s_scale
            t = tl.dot(t_own, tl.trans(t_other), input_precision=PRECISION) * t_scale
            our_total, our_highest, their_total, their_highest, cross = _forward_tile(
                s, t, visible, our_total, our_highest, their_total, their_highest, cross
            )

    ours, theirs = _log(our_total, our_highest), _log(their_total, their_highest)
    row = (relation * tl.num_programs(0) // blocks + sample_head).to(tl.int64) * length + query
    tl.store(s_lse + row, ours, mask=query < length)
    tl.store(t_lse + row, theirs, mask=query < length)
    # A row that sees nothing has totals 0 and logs 0: its divergence is 0.
    divergence = cross / tl.where(their_total > 0, their_total, 1.0) - theirs + ours
    share = tl.sum(tl.where(real_query, divergence, 0.0), 0) * LN_2 * tl.load(weights + sample)
    tl.store(partial + relation * tl.num_programs(0) + index, share)


@triton.jit
def backward(
    s_own, s_other, t_own, t_other,  # tuples: one pointer a relation
    mask, weights, grad_losses,
    s_lse, t_lse, gradient,
    length, heads, blocks,
    s_stride_batch, s_stride, t_stride_batch, t_stride,
    s_size, t_size, s_scale, t_scale, out_scale,
    CAUSAL: tl.constexpr, MASK: tl.constexpr,
    OWN_ASKS: tl.constexpr, OTHER_ASKS: tl.constexpr,
    OWN: tl.constexpr, OTHER: tl.constexpr, S_BLOCK: tl.constexpr, T_BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient of the own side, from recomputed tiles.

    With q the student's relation and p the teacher's, own row i gets sum_j (q - p) other_j / sqrt(d), where
    (q - p) is that of query i and key j (`OWN_ASKS`: own is the left side), of query j and key i (`OTHER_ASKS`:
    own is the right side), or the sum of both: for a symmetric pair that is the whole gradient, in one pass.
    A symmetric tile could serve its mirror image too, which halves the tiles; but then programs would add into
    each other's rows with atomics, in an order that changes from run to run. We keep gradients reproducible.

    Grid: (blocks of own rows * batch * heads, relations).
    """
    index, relation = tl.program_id(0), tl.program_id(1)
    sample_head = index // blocks
    sample, head = (sample_head // heads).to(tl.int64), sample_head % heads
    s_offset, t_offset = sample * s_stride_batch + head * s_size, sample * t_stride_batch + head * t_size
    s_others, t_others = _pick(s_other, relation) + s_offset, _pick(t_other, relation) + t_offset
    lse_offset = (relation * tl.num_programs(0) // blocks + sample_head).to(tl.int64) * length

    first = (index % blocks) * OWN
    own, real_own = _tokens(first, mask, sample * length, length, OWN, MASK)
    s_rows = _rows(_pick(s_own, relation) + s_offset, own, real_own, s_stride, s_size, S_BLOCK)
    t_rows = _rows(_pick(t_own, relation) + t_offset, own, real_own, t_stride, t_size, T_BLOCK)
    s_own_lse = tl.load(s_lse + lse_offset + own, mask=own < length, other=0.0)
    t_own_lse = tl.load(t_lse + lse_offset + own, mask=own < length, other=0.0)

    sums = tl.zeros([OWN, S_BLOCK], tl.float32)
    begin = (first // OTHER) * OTHER if CAUSAL and not OWN_ASKS else 0
    last = tl.minimum(length, first + OWN) if CAUSAL and not OTHER_ASKS else length
    for start in range(begin, last, OTHER):
        other, real_other = _tokens(start, mask, sample * length, length, OTHER, MASK)
        both_real = real_own[:, None] & real_other[None, :]
        needed = True
        if MASK:
            needed = tl.max(tl.max(both_real.to(tl.int32), 1), 0) > 0
        if needed:
            s_cols = _rows(s_others, other, real_other, s_stride, s_size, S_BLOCK)
            t_cols = _rows(t_others, other, real_other, t_stride, t_size, T_BLOCK)
            s = tl.dot(s_rows, tl.trans(s_cols), input_precision=PRECISION) * s_scale
            t = tl.dot(t_rows, tl.trans(t_cols), input_precision=PRECISION) * t_scale
            difference = tl.zeros([OWN, OTHER], tl.float32)
            if OWN_ASKS:
                q_less_p = tl.exp2(s - s_own_lse[:, None]) - tl.exp2(t - t_own_lse[:, None])
                visible = both_real & (own[:, None] >= other[None, :]) if CAUSAL else both_real
                difference += tl.where(visible, q_less_p, 0.0)
            if OTHER_ASKS:
                s_other_lse = tl.load(s_lse + lse_offset + other, mask=other < length, other=0.0)
                t_other_lse = tl.load(t_lse + lse_offset + other, mask=other < length, other=0.0)
                q_less_p = tl.exp2(s - s_other_lse[None, :]) - tl.exp2(t - t_other_lse[None, :])
                visible = both_real & (own[:, None] <= other[None, :]) if CAUSAL else both_real
                difference += tl.where(visible, q_less_p, 0.0)
            sums = tl.dot(difference.to(s_cols.dtype), s_cols, sums, input_precision=PRECISION)

    sums *= tl.load(weights + sample) * tl.load(grad_losses + relation) * out_scale
    column = tl.arange(0, S_BLOCK)
    width = heads * s_size
    base = (relation * (tl.num_programs(0) // blocks // heads) + sample) * length
    tl.store(
        gradient + (base + own)[:, None] * width + (head * s_size + column)[None, :],
        sums.to(gradient.dtype.element_ty),
        mask=(own < length)[:, None] & (column < s_size)[None, :],
    )
