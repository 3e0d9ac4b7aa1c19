"""Which keys a query may see, and what a query weighs."""

import torch
from torch import Tensor


def sequence_weights(mask: Tensor | None, like: Tensor) -> Tensor:
    """What one real query of each sequence weighs in the loss, (batch,).

    1 / (its real tokens * sequences that have a real token): over all real queries the weights sum to 1. A
    sequence without a real token has no query, so its weight does not matter; it is finite.
    """
    batch, length = like.shape[:2]
    dtype = accumulator(like.dtype)
    if mask is None:
        return torch.full((batch,), 1 / (batch * length), dtype=dtype, device=like.device)
    tokens = mask.sum(dim=1)
    sequences = (tokens > 0).sum().clamp(min=1)
    return 1 / (tokens.clamp(min=1) * sequences).to(dtype)


def allowed_keys(mask: Tensor | None, causal: bool, segments: Tensor | None, like: Tensor) -> Tensor:
    """True where query i may see key j, broadcastable to (batch, length, length)."""
    length = like.shape[1]
    allowed = torch.ones(1, length, length, dtype=torch.bool, device=like.device)
    if causal:
        allowed = allowed.tril()
    if segments is not None:
        allowed = allowed & (segments[:, :, None] == segments[:, None, :])
    if mask is not None:
        allowed = allowed & mask[:, None, :]
    return allowed


def pieces(mask: Tensor | None, segments: Tensor | None) -> list[Tensor]:
    """The stretches of tokens that relate to each other, batched by their number of tokens.

    Returns a list of (stretches, tokens) index tensors into the flattened (batch * length) positions. The real
    tokens of one segment of one sequence are one stretch, in their order; padding is in none. Within a
    stretch every key is allowed (or every earlier one, if causal): no mask is left to apply.
    """
    template = mask if mask is not None else segments
    assert template is not None
    batch, length = template.shape
    rows = torch.arange(batch, device=template.device)[:, None].expand(batch, length)
    flat = torch.arange(batch * length, device=template.device)
    if mask is not None:
        flat = flat[mask.reshape(-1)]
    if flat.numel() == 0:
        return []
    label = rows.reshape(-1)[flat]
    if segments is not None:
        _, segment = torch.unique(segments.reshape(-1)[flat], return_inverse=True)
        label = label * length * batch + segment
    # A stable sort keeps the order of the tokens; a segment need not be contiguous.
    label, order = torch.sort(label, stable=True)
    _, counts = torch.unique_consecutive(label, return_counts=True)
    by_tokens: dict[int, list[Tensor]] = {}
    for stretch in flat[order].split(counts.tolist()):
        by_tokens.setdefault(stretch.numel(), []).append(stretch)
    return [torch.stack(stretches) for stretches in by_tokens.values()]


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype that sums are kept in: float32, and float64 for float64 inputs."""
    return torch.float64 if dtype == torch.float64 else torch.float32
