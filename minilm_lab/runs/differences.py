"""What differs between two records, key by key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: What stands where one side has no such key.
ABSENT = "(absent)"


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and lists as {"a.b": …, "c.0": …}; an empty one is a value of its own."""
    if isinstance(value, Mapping):
        items = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(str(number), inner) for number, inner in enumerate(value)]
    else:
        return {prefix: value}
    if not items:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, inner in items:
        found |= flat(inner, f"{prefix}.{key}" if prefix else key)
    return found


def differing(before: Any, after: Any) -> dict[str, tuple[Any, Any]]:
    """{dotted key: (before, after)} of all that is not equal, in the order of the keys; ABSENT where one lacks it."""
    old, new = flat(before), flat(after)
    return {
        key: (old.get(key, ABSENT), new.get(key, ABSENT))
        for key in sorted({*old, *new})
        if not _same(old.get(key, ABSENT), new.get(key, ABSENT))
    }


def told(differences: Mapping[str, tuple[Any, Any]], most: int = 8) -> str:
    """One line: `key: before -> after; …`, at most `most` of them."""
    shown = [
        f"{key or 'all'}: {_short(a)} -> {_short(b)}" for key, (a, b) in list(differences.items())[:most]
    ]
    more = len(differences) - len(shown)
    return "; ".join([*shown, f"and {more} more"] if more > 0 else shown)


def _same(first: Any, second: Any) -> bool:
    # 1 and 1.0 are the same number of a record, True and 1 are not; NaN equals itself here.
    if isinstance(first, bool) != isinstance(second, bool):
        return False
    return bool(first == second or (first != first and second != second))


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str) and value != ABSENT else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
