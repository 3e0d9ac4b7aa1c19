"""Checksums of files, remembered for as long as they are the same files."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from minilm_lab.runs.files import read_json, write_json

SETTLED = 2.0
"""Seconds since its last change after which a file's time stamps tell it from the next change for sure."""
MOST = 20_000
"""Files, more than which are not looked at one by one."""
_CHUNK = 1 << 22


def file_checksum(
    file: Path, cache: Path | None = None, check: Callable[[bytes], None] | None = None, kind: str = ""
) -> str:
    """Return 32 hexadecimal digits (BLAKE2b) of the content of `file`.

    Args:
        file: what is read, unless it was before and nothing touched it since: size, both time stamps (the kernel's own
            cannot be set) and inode are the same.
        cache: folder of caches (``paths.cache``), in which checksums are remembered; None: it is read.
        check: called with every 4 MiB; what it raises is raised.
        kind: name of the check: a checksum that was remembered without it does not count.
    """
    place = None if cache is None else _place(file, cache, kind)
    state, now = _state(file), time.time_ns()
    known = None if place is None else read_json(place)
    if isinstance(known, dict) and known.get("state") == state:
        return str(known["checksum"])
    digest = hashlib.blake2b(digest_size=16)
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            if check is not None:
                check(chunk)
            digest.update(chunk)
    # A file that was changed a moment ago may be changed again within one tick of the clock.
    settled = now - max(state[1:3]) > SETTLED * 1e9 and _state(file) == state
    if place is not None and settled:
        with suppress(OSError):  # a cache that cannot be written to remembers nothing
            write_json(place, {"file": str(file), "state": state, "checksum": digest.hexdigest()})
    return digest.hexdigest()


def file_checksums(
    files: Sequence[Path],
    cache: Path | None = None,
    check: Callable[[Path, bytes], None] | None = None,
    kind: str = "",
) -> list[str]:
    """Return `file_checksum` of each file, in order, read by several threads (hashing releases the GIL)."""

    def checksum(file: Path) -> str:
        return file_checksum(file, cache, None if check is None else partial(check, file), kind)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(checksum, files))


def _place(file: Path, cache: Path, kind: str) -> Path:
    name = hashlib.blake2b(f"{file.resolve()}\0{kind}".encode(errors="surrogateescape"), digest_size=12)
    return cache / "fingerprints" / f"{name.hexdigest()}.json"


def _state(file: Path) -> list[int]:
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


class Unsettled(Exception):
    """Files were changed a moment ago: the next change may leave no trace in their time stamps."""


def states(paths: Iterable[Path], settled: bool = True) -> list[tuple[str, list[int]]]:
    """Every file, and every file below a folder, with what tells it from its next change: size, time stamps, inode.

    Raises Unsettled where `settled` is asked for and a file changed within the last seconds, or where there are too many.
    """
    files = sorted(
        file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()
    )
    if len(files) > MOST:
        raise Unsettled(f"{len(files)} files")
    found = [(str(file.resolve()), _state(file)) for file in files]
    now = time.time_ns()
    if settled and any(now - max(state[1:3]) <= SETTLED * 1e9 for _, state in found):
        raise Unsettled
    return found
