"""What is made once and kept in the cache: by one of several processes, whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from minilm_lab.atomic import whole_folder
from minilm_lab.errors import first_line
from minilm_lab.locks import locked

log = logging.getLogger(__name__)
T = TypeVar("T")


def kept(
    folder: Path,
    read: Callable[[Path], T],
    write: Callable[[Path], None],
    broken: type[Exception] | tuple[type[Exception], ...],
    waiting: str,
) -> T:
    """Return what `read` finds in `folder`; where it is not there, or `broken`, `write` makes it first.

    The folder's name says all that decides its content. Of several processes that need it one writes, and the others wait
    and say so (`waiting`). OSError of the disk is the caller's.
    """
    there = _there(folder, read, broken)
    if there is None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_suffix(".lock"), waiting):
            there = _there(folder, read, broken)
            if there is None:
                with whole_folder(folder) as partial:
                    write(partial)
                there = read(folder)
    return there


def _there(
    folder: Path, read: Callable[[Path], T], broken: type[Exception] | tuple[type[Exception], ...]
) -> T | None:
    if not folder.is_dir():
        return None
    try:
        return read(folder)
    except broken as error:
        log.warning("%s is broken (%s); it is made again.", folder, first_line(error))
        return None
