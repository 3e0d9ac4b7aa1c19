"""The teacher's likeliest next tokens of each block, kept on disk: a block that comes again costs no teacher."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minilm_lab.data import Blocks
from minilm_lab.data.checksum import settings_checksum
from minilm_lab.data.kept import kept
from minilm_lab.models.next_token import Top
from minilm_lab.models.taps import Seen


class SoftTargets:
    """Rows of a memory map, one a block, each with a checksum: what was cut off by a kill or a power cut is made again.

    What a run sees of a block is always what stands here, so it is the same in the first epoch and in the last, and after a
    kill. Several processes may share a folder: all write the same.
    """

    def __init__(self, cache: Path, blocks: Blocks, teacher: Any, count: int, vocabulary: int) -> None:
        """teacher: what decides its logits, for JSON; count: likeliest tokens; OSError where nothing can be written."""
        self.length, self.count = blocks.length, count
        lengths = blocks.lengths
        self._lengths = None if lengths is None else lengths.astype(np.int64)
        size = blocks.count, blocks.length
        token = np.uint16 if vocabulary <= 1 << 16 else np.uint32
        shapes: dict[str, tuple[tuple[int, ...], Any]] = {
            "ids": ((*size, count), token),
            "logs": ((*size, count + 1), np.float16),
            "checksums": ((blocks.count,), np.uint32),
        }

        def write(folder: Path) -> None:
            for name, (shape, dtype) in shapes.items():  # sparse files: they take room as they are filled
                np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape).flush()

        def read(folder: Path) -> dict[str, np.ndarray]:
            maps = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in shapes}
            if any(maps[name].shape != shape for name, (shape, _) in shapes.items()):
                raise ValueError("its files are of another shape")
            return maps

        key = settings_checksum([teacher, blocks.index.checksums, blocks.length, count])
        self.folder = cache / "soft_targets" / key
        maps = kept(
            self.folder, read, write, (ValueError, OSError), f"Another process prepares {self.folder}"
        )
        self._ids, self._logs, self._checksums = maps["ids"], maps["logs"], maps["checksums"]
        self.read, self.computed = 0, 0
        """Blocks that came from disk, and blocks that the teacher was asked for, by this process."""

    def __call__(self, blocks: Tensor, length: int, teach: Callable[[], Seen]) -> Seen:
        """What the teacher would show of these blocks (batch,), of which `length` tokens are read: `top` alone."""
        rows = blocks.tolist()
        parts = [self._row(row) for row in rows]
        if any(part is None for part in parts):
            top = teach().top
            assert top is not None
            for row, part, ids, logs in zip(rows, parts, top.ids.cpu(), top.logs.cpu(), strict=True):
                if part is None:
                    self._keep(row, ids, logs)
            self.computed += len(rows)
            parts = [self._row(row) for row in rows]
        else:
            self.read += len(rows)
        ids = np.zeros((len(rows), length, self.count), np.int64)
        logs = np.zeros((len(rows), length, self.count + 1), np.float16)
        for n, part in enumerate(parts):
            assert part is not None
            ids[n, : len(part[0])], logs[n, : len(part[1])] = part
        return Seen(top=Top(*(torch.from_numpy(x).to(blocks.device) for x in (ids, logs))))

    def _real(self, row: int) -> int:
        return self.length if self._lengths is None else int(self._lengths[row])

    def _row(self, row: int) -> tuple[np.ndarray, np.ndarray] | None:
        """ids and logs of a block's real tokens; None where they are not there, or not whole."""
        wanted, real = int(self._checksums[row]), self._real(row)
        if not wanted:
            return None
        ids, logs = self._ids[row, :real], self._logs[row, :real]
        return (ids, logs) if _checksum((ids, logs)) == wanted else None

    def _keep(self, row: int, ids: Tensor, logs: Tensor) -> None:
        real = self._real(row)
        self._ids[row, :real] = ids[:real].numpy().astype(self._ids.dtype)
        self._logs[row, :real] = logs[:real].numpy()
        self._checksums[row] = _checksum((self._ids[row, :real], self._logs[row, :real]))


def _checksum(arrays: Sequence[np.ndarray]) -> int:
    """CRC-32, never 0, which stands for a block that nobody has computed."""
    value = 0
    for array in arrays:
        value = zlib.crc32(array.tobytes(), value)
    return value or 1
