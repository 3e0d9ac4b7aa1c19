"""Parts of a data set that are a function of the texts alone: not of their order, nor of a random generator."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from minilm_lab.data.splits import texts
from minilm_lab.errors import LabError

if TYPE_CHECKING:
    from datasets import Dataset


def position(row: tuple[str, str | None]) -> float:
    """Uniform in [0, 1), a function of the text or the pair; copies have the same."""
    first, second = row
    key = first if second is None else f"{first}\0{second}"
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) / 2**64


def first(split: Dataset, count: int, setting: str) -> Dataset:
    """The `count` examples that come first in the order of their positions, in the order of the data.

    So a smaller part lies within a larger one. Raises LabError, naming `setting`, when there are fewer.
    """
    if count > len(split):
        raise LabError(
            f"{setting}={count} is more than the {len(split)} training examples there are; "
            f"give at most {len(split)}, or null for all."
        )
    places = [position(row) for row in texts(split)]
    order = sorted(range(len(split)), key=lambda row: (places[row], row))
    return split.select(sorted(order[:count]))


def hold_out(
    split: Dataset,
    share: float,
    whole: Callable[[tuple[str, str | None]], str] | None = None,
) -> tuple[Dataset, Dataset]:
    """(the rest, the examples whose position is below `share`): copies of a text are on one side.

    whole: what of the two texts decides, so that all examples that share it are on one side; None = both.
    Raises LabError when a side is empty.
    """
    held = [position(row if whole is None else (whole(row), None)) < share for row in texts(split)]
    if all(held) or not any(held):
        raise LabError(
            f"task.dev_fraction={share} leaves {held.count(False)} training and {held.count(True)} dev examples."
        )
    rows = range(len(split))
    return split.select([r for r in rows if not held[r]]), split.select([r for r in rows if held[r]])


def check_share(share: float | None, dev_path: str | None) -> None:
    """Raise LabError where `task.dev_fraction` is no share, or dev has a place of its own as well."""
    if share is None:
        return
    if not 0 < share < 1:
        raise LabError(f"task.dev_fraction={share} must be between 0 and 1, or null.")
    if dev_path is not None:
        raise LabError(f"task.dev_fraction={share} and task.dev_path={dev_path}: give one of them.")
