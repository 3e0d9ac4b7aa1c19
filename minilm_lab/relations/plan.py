"""How much of a batch makes a block."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch


@dataclass(frozen=True)
class Plan:
    """How many sequences, heads and queries make a block; keys are never split."""

    sequences: int
    heads: int
    queries: int

    def groups(self, batch: int, heads: int) -> Iterator[tuple[slice, slice]]:
        """The (sequences, heads) of each block."""
        for b in range(0, batch, self.sequences):
            for h in range(0, heads, self.heads):
                yield slice(b, min(b + self.sequences, batch)), slice(h, min(h + self.heads, heads))


def plan_blocks(batch: int, heads: int, length: int, itemsize: int, device: torch.device) -> Plan:
    """The largest block within the budget: whole sequences, else some heads, else some queries of a few heads."""
    budget = block_bytes(device) // itemsize
    square = length * length
    if budget >= heads * square:
        return Plan(_evenly(batch, budget // (heads * square)), heads, length)
    # The products run in parallel over heads, so keep at least one for each thread.
    some = _evenly(heads, max(budget // square, torch.get_num_threads()))
    return Plan(1, some, max(1, min(length, budget // (some * length))))


def block_bytes(device: torch.device) -> int:
    """What one queries x keys matrix of a block may take; three are alive.

    On a CPU half of the cores' second-level caches: measured, less costs calls and more costs cache misses.
    Else a part of the free memory, up to where more does not help.
    """
    if device.type == "cpu":
        return torch.get_num_threads() * _cache_bytes() // 2
    if device.type == "cuda":
        return max(1 << 22, min(1 << 28, torch.cuda.mem_get_info(device)[0] // 16))
    return 1 << 26


@lru_cache
def _cache_bytes() -> int:
    """The second-level cache of one core; a mebibyte where the system does not say."""
    try:
        size = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().strip()
        return int(size.removesuffix("K")) << 10
    except (OSError, ValueError):
        return 1 << 20


def _evenly(total: int, most: int) -> int:
    """The size of the parts when `total` is split into as few, nearly equal parts as `most` allows."""
    return math.ceil(total / math.ceil(total / max(1, most)))
