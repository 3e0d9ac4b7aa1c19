"""Source, target and the slots that predict the target as one sequence, and who sees whom in it.

The sequence is: source tokens; target tokens; for each target token one [MASK], its slot, at the same position. A
source token sees the source. A target token sees the source and the target up to itself. A slot sees the source, the
target *before* its token, and itself. So all target tokens are learned in one pass, and each slot sees exactly what
decoding shows it: append [MASK], read it, put the token in its place. This is the "pseudo-masked" fine-tuning of
UniLMv2 (Bao et al. 2020, arXiv 2002.12804) with one token a step, as MiniLM's authors fine-tune in s2s-ft
(github.com/microsoft/unilm), which besides shows a tenth of the slots their own token and a tenth a random one: here
every slot is [MASK], because decoding knows nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Joined:
    """A batch for the model: `tokens` of source and target (padded on the right), then the slots."""

    input_ids: Tensor
    """int64 (batch, tokens + slots)."""
    position_ids: Tensor
    """int64, counted from 0; a slot has the position of its token."""
    segments: Tensor
    """int64, 0 = source, 1 = target."""
    visible: Tensor
    """bool (batch, 1, query, key), true = may be seen; every query sees something."""
    tokens: int
    """Length of the part before the slots."""
    filled: Tensor
    """bool (batch, slots): which slots have a token to predict."""


def join(input_ids: Tensor, real: Tensor, target: Tensor, mask_id: int) -> Joined:
    """Put a slot for each target token behind the batch.

    input_ids: int64 (batch, tokens), each row source, target, padding; real, target: bool, the same shape.
    """
    batch, tokens = input_ids.shape
    counts = target.sum(dim=1)
    slots = int(counts.max())
    place = torch.arange(tokens, device=input_ids.device)
    slot = torch.arange(slots, device=input_ids.device)
    # The number of a target token, from 1, and of its slot; 0 for the source.
    number = target.cumsum(dim=1) * target
    slot_number = (slot + 1).expand(batch, slots)
    source_length = (real & ~target).sum(dim=1, keepdim=True)
    by_token = real[:, None, :] & (number[:, None, :] <= number[:, :, None])
    by_slot = real[:, None, :] & (number[:, None, :] < slot_number[:, :, None])
    itself = torch.eye(slots, dtype=torch.bool, device=input_ids.device).expand(batch, slots, slots)
    nothing = itself.new_zeros(batch, tokens, slots)
    rows = [torch.cat([by_token, nothing], dim=2), torch.cat([by_slot, itself], dim=2)]
    masks = input_ids.new_full((batch, slots), mask_id)
    return Joined(
        input_ids=torch.cat([input_ids, masks], dim=1),
        position_ids=torch.cat([place.expand(batch, tokens), source_length + slot], dim=1),
        segments=torch.cat([target.long(), torch.ones_like(masks)], dim=1),
        visible=torch.cat(rows, dim=1).unsqueeze(1),
        tokens=tokens,
        filled=slot < counts[:, None],
    )
