"""Token blocks on disk: opened, verified, split into training and held-out blocks."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from minilm_lab.data.splitmix import GAMMA, mixed
from minilm_lab.runs.fingerprints import file_checksum

TOKENS = "tokens.bin"
LENGTHS = "lengths.bin"
SECONDS = "seconds.bin"
INDEX = "index.json"
Numbers = npt.NDArray[np.int64]


class BrokenCache(Exception):
    """The folder holds no whole set of blocks; the message says what is wrong with it."""


@dataclass(frozen=True)
class Index:
    """What is known about the blocks of a folder (``index.json``)."""

    corpus: str
    """Name of the corpus."""
    settings: dict[str, Any]
    """What the folder's key is made of."""
    blocks: int
    """How many, held-out ones included."""
    length: int
    """Tokens of a block, special tokens included."""
    packing: str
    """`packed`, `sentences` or `pairs`."""
    dtype: str
    """`uint16` or `uint32`."""
    pad: int
    """Token id that fills up short blocks."""
    documents: int
    """Of packing=pairs: sentences."""
    characters: int
    tokens: int
    """Real tokens in the blocks, special tokens included, padding not."""
    dropped: int
    """Tokens of the text that are in no block."""
    seconds: float
    """What building took."""
    checksums: dict[str, str] = field(default_factory=dict)
    """File -> BLAKE2b of its content."""


@dataclass(frozen=True)
class Blocks:
    """Memory-mapped token blocks. Cheap to send to another process: the file is mapped where it is read."""

    folder: Path
    index: Index

    @property
    def length(self) -> int:
        """Tokens of a block."""
        return self.index.length

    @property
    def count(self) -> int:
        """Blocks, held-out ones included."""
        return self.index.blocks

    @cached_property
    def held_out(self) -> Numbers:
        """Numbers of the blocks for validation, ascending, int64: a pseudo-random choice by block number."""
        chosen = np.argsort(_scattered(self.count), kind="stable")[: held_out_count(self.count)]
        return np.sort(chosen).astype(np.int64)

    @cached_property
    def train(self) -> Numbers:
        """Numbers of the blocks for training, ascending, int64."""
        return np.setdiff1d(np.arange(self.count, dtype=np.int64), self.held_out, assume_unique=True)

    @cached_property
    def tokens(self) -> npt.NDArray[np.unsignedinteger]:
        """All blocks, (count, length), read-only, memory-mapped."""
        return np.memmap(self.folder / TOKENS, self.index.dtype, "r", shape=(self.count, self.length))

    @cached_property
    def lengths(self) -> npt.NDArray[np.uint32] | None:
        """True length of each block, (count,), or None if all are full."""
        return self._numbers(LENGTHS)

    @cached_property
    def seconds(self) -> npt.NDArray[np.uint32] | None:
        """Where the second text of each block begins, (count,): its length where there is none; None without pairs."""
        return self._numbers(SECONDS)

    def _numbers(self, name: str) -> npt.NDArray[np.uint32] | None:
        return np.fromfile(self.folder / name, np.uint32) if name in self.index.checksums else None

    def __getstate__(self) -> dict[str, Any]:
        # Pickling a memory map would copy the whole file.
        return {"folder": self.folder, "index": self.index}

    @classmethod
    def open(cls, folder: Path) -> Blocks:
        """Open the blocks in `folder`, after comparing sizes and checksums with its index.

        Raises:
            BrokenCache: something is missing or differs.
        """
        try:
            index = Index(**json.loads((folder / INDEX).read_text(encoding="utf-8")))
            size = index.blocks * index.length * np.dtype(index.dtype).itemsize
            if (folder / TOKENS).stat().st_size != size:
                raise BrokenCache(f"{TOKENS} has not the {size:,} bytes that {INDEX} says")
            for name, checksum in index.checksums.items():
                if file_checksum(folder / name) != checksum:
                    raise BrokenCache(f"the checksum of {name} differs from the one in {INDEX}")
        except (OSError, ValueError, TypeError) as error:
            raise BrokenCache(str(error)) from error
        if TOKENS not in index.checksums:
            raise BrokenCache(f"{INDEX} has no checksum of {TOKENS}")
        return cls(folder, index)


def held_out_count(blocks: int) -> int:
    """Return how many of `blocks` are held out: 1 %, but at least 64 or 5 % if that is less, at most 512."""
    return min(512, max(round(0.01 * blocks), min(64, round(0.05 * blocks)), 1))


def write_index(folder: Path, index: Index) -> None:
    """Write ``index.json``."""
    (folder / INDEX).write_text(json.dumps(asdict(index), indent=2) + "\n", encoding="utf-8")


def _scattered(count: int) -> npt.NDArray[np.uint64]:
    """Return the SplitMix64 hash of each number below `count`."""
    return mixed(np.arange(1, count + 1, dtype=np.uint64) * GAMMA)
