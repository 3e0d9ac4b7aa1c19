"""Keys and values of what was read before: written once, never moved."""

from __future__ import annotations

import torch
from torch import Tensor


class KeysAndValues:
    """What the library's attention asks of a cache: `update` adds keys and values and returns all of them.

    Room is made once, so that a step copies only its own tokens and not the source's.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        """Positions that are in use; those behind are overwritten."""
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, keys: Tensor, values: Tensor, layer: int, *unused: object) -> tuple[Tensor, Tensor]:
        """Add (batch, heads, query, head size) of a layer behind what is used; return all of that layer."""
        if layer not in self._layers:
            batch, heads, _, size = keys.shape
            self._layers[layer] = (
                keys.new_empty(batch, heads, self.capacity, size),
                values.new_empty(batch, heads, self.capacity, size),
            )
        end = self.used + keys.shape[2]
        kept_keys, kept_values = self._layers[layer]
        kept_keys[:, :, self.used : end] = keys
        kept_values[:, :, self.used : end] = values
        return kept_keys[:, :, :end], kept_values[:, :, :end]

    def keep(self, count: int) -> None:
        """Of what the last call added to every layer, `count` positions stay."""
        self.used += count

    def get_seq_length(self, *unused: object) -> int:
        """Part of the library's interface: positions in use."""
        return self.used


def own_entries(parents: Tensor, seen: Tensor) -> Tensor:
    """Which cached target tokens belong to each of the next hypotheses: those of its parent, and its own new token.

    parents: int64 (batch, beams), the hypothesis that each continues; seen: bool (batch, parents, entries).
    Returns bool (batch, beams, entries + beams).
    """
    batch, beams = parents.shape
    inherited = seen.gather(1, parents[:, :, None].expand(batch, beams, seen.shape[2]))
    new = torch.eye(beams, dtype=torch.bool, device=seen.device).expand(batch, beams, beams)
    return torch.cat([inherited, new], dim=2)
