"""What every corpus has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from omegaconf import MISSING


class Packing(StrEnum):
    """How documents become blocks of `length` tokens."""

    packed = "packed"
    """Documents are joined by the separator token and cut into full blocks; nothing is padded."""

    sentences = "sentences"
    """One document per block, truncated to the length, padded on the right: for short texts."""

    pairs = "pairs"
    """Documents are cut into sentences; one alone, then two as a pair with segment ids, and so on, a block each, in
    batches of similar length: the two kinds of input that fine-tuning has."""


@dataclass
class Corpus(ABC):
    """Unlabelled text: the schema of a `corpus` configuration and the object that reads it."""

    written_specials: ClassVar[bool] = False
    """Whether special tokens that are written in its texts ("[MASK]") become those tokens."""

    name: str = MISSING
    """Short name for humans (progress bars, messages, run slugs); no part of what is computed."""

    packing: Packing = Packing.packed
    """`packed`: full blocks of running text. `sentences`: one document per block, for short texts. `pairs`: single
    sentences and pairs of them, each half of the blocks."""

    @abstractmethod
    def documents(self, hub: str | None, cache: Path) -> Iterator[str]:
        """Yield the non-empty documents, always in the same order.

        Args:
            hub: folder with local copies of hub data sets (``paths.hub``), or None.
            cache: folder for what is downloaded or computed (``paths.cache``).

        Raises:
            LabError: the input is missing, empty, binary or lacks the text column.
        """

    @abstractmethod
    def fingerprint(self, hub: str | None, cache: Path) -> str:
        """Return a checksum of everything that decides what `documents` yields.

        It depends on content, versions and the fields that choose documents; not on where a file lies nor on
        `name` and `packing`. Arguments and errors as for `documents`.
        """
