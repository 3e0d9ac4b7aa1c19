"""Errors that a user can cause and mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LabError(Exception):
    """Bad input: the message says what is wrong (name and value) and what would be right.

    Commands print the message alone, without a traceback, and exit with code 1.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def told(error: BaseException) -> str:
    """Return an error in one line, for a list of failures: its kind, unless it is bad input, its message, its notes."""
    kind = "" if isinstance(error, LabError) else f"{type(error).__name__}: "
    return f"{kind}{error}" + "".join(f" ({note})" for note in getattr(error, "__notes__", ()))


def nearest(word: str, choices: Iterable[object]) -> str:
    """Return ``" Did you mean 'x'?"`` for the choice most like `word`, or ``""`` if none is near."""
    found = difflib.get_close_matches(word, [str(choice) for choice in choices], n=1, cutoff=0.5)
    return f" Did you mean '{found[0]}'?" if found else ""
