"""What a completed run consists of: the sizes of its files stand in its record, so that a cut one is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

#: Folders of a run that are neither training state nor a logger's.
PRODUCTS = ("student", "model")
#: What changes after a run is completed, or says nothing about what it computed.
OTHER = ("lock", "status.json", "config.yaml", "result.json", "README.md")


def everything(folder: Path) -> Iterator[Path]:
    """The files of the run's record and product, and the folders that hold them."""
    for place in (folder, *(folder / name for name in PRODUCTS)):
        if place.is_dir():
            yield place
            yield from (path for path in sorted(place.iterdir()) if path.is_file())


def sizes(folder: Path) -> dict[str, int]:
    """File (relative to `folder`) -> bytes, of what must not change any more."""
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in everything(folder)
        if path.is_file() and path.name not in OTHER and not path.name.startswith(".")
    }


def damaged(folder: Path, recorded: object) -> str | None:
    """What is wrong with the files of a record, in words; None if nothing.

    A file that is not there is no damage: whoever deletes a student to save space keeps its record. Records of before
    sizes were kept are believed.
    """
    if not isinstance(recorded, dict):
        return None
    for name, size in recorded.items():
        try:
            found = (folder / name).stat().st_size
        except OSError:
            continue
        if found != size:
            return f"{name} has {found:,} bytes instead of {size:,}"
    return None
