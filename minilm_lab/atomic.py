"""A folder appears whole or not at all, also after a power cut."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from minilm_lab.errors import LabError


@contextmanager
def whole_folder(target: Path, *, alone: bool = True) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `target` at the end; after an error `target` is as before.

    Args:
        target: the folder to write, or to replace; folders on the way are made.
        alone: nobody else writes `target` meanwhile (its lock is held). What a killed process left half-written is
            then removed; else each process writes beside the others, and the last one stays.

    Raises LabError where there is no room for a folder; OSError of the disk is the caller's.
    """
    mark = "" if alone else f".{os.getpid()}"
    new, old = (target.with_name(f".{target.name}{mark}.{age}.tmp") for age in ("new", "old"))
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
    except OSError as error:
        raise LabError(f"{target} cannot be written ({error.strerror or error})") from error
    try:
        yield new
        files = [path for path in new.rglob("*") if path.is_file()]
        for file in files:  # some libraries write files that only their owner can read
            file.chmod(new.stat().st_mode & 0o666)
        settle(files)
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        new.rename(target)
        settle([target.parent])
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def settle(paths: Iterable[Path]) -> None:
    """Have files and folders written to the disk itself: a rename is, once its folder is."""
    for path in paths:
        # Not every file system syncs folders, and not every folder can be read.
        with suppress(OSError) if path.is_dir() else nullcontext():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
