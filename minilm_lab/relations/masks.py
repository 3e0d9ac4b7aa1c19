"""What a query weighs, and where the real tokens are."""

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


def pieces(mask: Tensor) -> list[Tensor]:
    """The real tokens of each sequence, in their order, batched by their number.

    mask: (batch, length) bool. Returns a list of (sequences, tokens) index tensors into the flattened (batch * length)
    positions; a sequence without a real token is in none. Within them no mask is left to apply.
    """
    by_tokens: dict[int, list[Tensor]] = {}
    for stretch in mask.reshape(-1).nonzero()[:, 0].split(mask.sum(dim=1).tolist()):
        if stretch.numel():
            by_tokens.setdefault(stretch.numel(), []).append(stretch)
    return [torch.stack(stretches) for stretches in by_tokens.values()]


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """The dtype that sums are kept in: float32, and float64 for float64 inputs."""
    return torch.float64 if dtype == torch.float64 else torch.float32
