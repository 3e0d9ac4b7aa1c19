"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minilm_lab.errors import LabError


def check_target(out: Path, overwrite: bool, source: Path | None) -> None:
    """Raise LabError unless `out` may be written: absent, empty, or an earlier export with overwrite=true.

    source: the folder that is exported; it must not lie in `out`.
    """
    if source is not None and source.resolve().is_relative_to(out.resolve()):
        raise LabError(f"out={out} holds the model that is exported ({source}); give another folder")
    if out.exists() and not out.is_dir():
        raise LabError(f"out={out} is a file; give a folder")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not overwrite:
        raise LabError(f"out={out} is not empty; give another folder, or overwrite=true to replace it")
    # A folder of something else is never deleted.
    if not (out / "config.json").is_file():
        raise LabError(
            f"out={out} holds no config.json, so no export wrote it: it is not replaced. Give another folder"
        )


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `out` at the end; after an error `out` is as before."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise LabError(f"out={out} cannot be written ({error.strerror or error})") from error
    try:
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():  # safetensors are written for their owner alone
                path.chmod(temporary.stat().st_mode & 0o666)
        if out.exists():
            out.rename(old)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
