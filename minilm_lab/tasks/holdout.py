"""Parts of a data set that are a function of the texts alone: not of their order, nor of a random generator."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from minilm_lab.errors import LabError
from minilm_lab.tasks.base import Examples


def position(texts: tuple[str, str | None]) -> float:
    """Uniform in [0, 1), a function of the text or the pair; copies have the same."""
    first, second = texts
    key = first if second is None else f"{first}\0{second}"
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) / 2**64


def first(examples: Examples, count: int, setting: str) -> Examples:
    """The `count` examples that come first in the order of their positions, in the order of the data.

    So a smaller part lies within a larger one. Raises LabError, naming `setting`, when there are fewer.
    """
    if count > len(examples):
        raise LabError(
            f"{setting}={count} is more than the {len(examples)} training examples there are; "
            f"give at most {len(examples)}, or null for all."
        )
    order = sorted(range(len(examples)), key=lambda row: (position(examples.texts[row]), row))
    return take(examples, sorted(order[:count]))


def hold_out(
    examples: Examples,
    share: float,
    whole: Callable[[tuple[str, str | None]], str] | None = None,
) -> tuple[Examples, Examples]:
    """(the rest, the examples whose position is below `share`): copies of a text are on one side.

    whole: what of the two texts decides, so that all examples that share it are on one side; None = both.
    Raises LabError when a side is empty.
    """
    keys = [texts if whole is None else (whole(texts), None) for texts in examples.texts]
    held = [position(key) < share for key in keys]
    if all(held) or not any(held):
        raise LabError(
            f"task.dev_fraction={share} leaves {held.count(False)} training and {held.count(True)} dev examples."
        )
    rows = range(len(examples))
    return take(examples, [r for r in rows if not held[r]]), take(examples, [r for r in rows if held[r]])


def check_share(share: float | None, dev_path: str | None) -> None:
    """Raise LabError where `task.dev_fraction` is no share, or dev has a place of its own as well."""
    if share is None:
        return
    if not 0 < share < 1:
        raise LabError(f"task.dev_fraction={share} must be between 0 and 1, or null.")
    if dev_path is not None:
        raise LabError(f"task.dev_fraction={share} and task.dev_path={dev_path}: give one of them.")


def take(examples: Examples, rows: list[int]) -> Examples:
    """The examples of these rows."""
    return replace(
        examples,
        texts=[examples.texts[row] for row in rows],
        labels=[examples.labels[row] for row in rows],
        ids=[examples.ids[row] for row in rows],
        gold=None if examples.gold is None else [examples.gold[row] for row in rows],
        groups=None if examples.groups is None else [examples.groups[row] for row in rows],
    )
