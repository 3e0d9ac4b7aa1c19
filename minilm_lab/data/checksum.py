"""Checksums of files and of settings (BLAKE2b)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_CHUNK = 1 << 22


def settings_checksum(settings: object) -> str:
    """Return 32 hexadecimal digits that depend on the JSON value `settings`, not on the order of its keys."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_checksum(file: Path, check: Callable[[bytes], None] | None = None) -> str:
    """Return 32 hexadecimal digits of the content of `file`; `check` is called with every 4 MiB of it."""
    digest = hashlib.blake2b(digest_size=16)
    with file.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            if check is not None:
                check(chunk)
            digest.update(chunk)
    return digest.hexdigest()


def file_checksums(files: Sequence[Path], check: Callable[[Path, bytes], None] | None = None) -> list[str]:
    """Return `file_checksum` of each file, in order, read by several threads (hashing releases the GIL)."""

    def one(file: Path) -> str:
        return file_checksum(file, None if check is None else lambda chunk: check(file, chunk))

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(one, files))
