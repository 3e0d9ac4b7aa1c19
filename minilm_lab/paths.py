"""Paths that a user gives."""

from __future__ import annotations

from pathlib import Path


def is_there(path: Path) -> bool:
    """Whether there is a file or folder `path`. Unlike `Path.exists`: of a name too long for any file, too."""
    try:
        return path.exists()
    except OSError:
        return False
