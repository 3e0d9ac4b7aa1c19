"""What many runs have in common is read and built for the first of them alone: while they are planned."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_answers: dict[Hashable, Any] | None = None


@contextmanager
def read_once() -> Iterator[None]:
    """While it is open, `once` remembers; after the outermost of several it forgets."""
    global _answers
    outer, _answers = _answers, {} if _answers is None else _answers
    try:
        yield
    finally:
        _answers = outer


def once(key: Hashable, read: Callable[[], T]) -> T:
    """What `read` gives; inside of `read_once` the first answer for this key."""
    if _answers is None:
        return read()
    if key not in _answers:
        _answers[key] = read()
    answer: T = _answers[key]
    return answer
