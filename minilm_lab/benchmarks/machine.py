"""What the machine gives: its matrix-product rate, and the memory that a piece of work takes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path

import torch


def matrix_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Return the best rate (floating-point operations a second) of a 2048 x 2048 product over a second or so."""
    size = 2048 if device.type == "cpu" else 8192
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    best, began = 0.0, time.perf_counter()
    while time.perf_counter() - began < 1.0:
        start = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Return the bytes that `work` needs at its peak beyond what was held before it (CPU: resident memory)."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    _release_free_memory()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _status("VmRSS")
    work()
    return max(0, _status("VmHWM") - before)


def _release_free_memory() -> None:
    # What the allocator keeps for later would hide what the work needs.
    with contextlib.suppress(OSError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return 0
