"""Which folder an export may write."""

from __future__ import annotations

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
