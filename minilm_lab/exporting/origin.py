"""Find the model that a user means: a run by identity or name, a folder, or a model of the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilm_lab.errors import LabError, nearest
from minilm_lab.models import sources
from minilm_lab.runs.files import read_json

#: Folders of a run that may hold its model.
PRODUCTS = ("student", "model")
_RUN_FOLDER = re.compile(r"(?P<slug>.+)-(?P<identity>[0-9a-f]{8,64})")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Origin:
    """Where a model is, and what it is called."""

    where: str
    """A folder or a hub id, for from_pretrained."""
    revision: str | None
    """Commit or tag on the hub."""
    title: str
    """Name for people: of the run, the folder, or the hub id."""
    record: dict[str, Any] | None = None
    """`result.json` of the run that made it."""

    @property
    def folder(self) -> Path | None:
        """The folder, or None for a model of the hub."""
        return Path(self.where) if Path(self.where).is_dir() else None

    @property
    def distilled_length(self) -> int | None:
        """Tokens a block in distillation; positions behind it have seen no training. None where that is unknown."""
        scale = ((self.record or {}).get("config") or {}).get("scale") or {}
        length = scale.get("length")
        return length if isinstance(length, int) and (self.record or {}).get("command") == "distill" else None


def find(source: str, runs: Path, key: str) -> Origin:
    """Return the model `source`; LabError, naming the setting `key`, if there is none.

    source: identity, name or folder name of a run in `runs`; a run's folder; a folder that save_pretrained wrote;
    a hub id (<owner>/<name>). What exists as a folder, or starts like a path, is a folder.
    """
    folder = Path(source).expanduser()
    if folder.exists() or source.startswith((".", "/", "~")) or _parts_exist(folder):
        return _in_folder(folder, key)
    if _HUB_ID.fullmatch(source):
        return Origin(source, None, source)
    return _in_folder(_find_run(source, runs, key), key)


def _parts_exist(folder: Path) -> bool:
    """Whether `a/b` can only be meant as a path: more than one slash, or `a` is a folder here."""
    return len(folder.parts) > 2 or (len(folder.parts) == 2 and folder.parent.is_dir())


def _in_folder(folder: Path, key: str) -> Origin:
    run = next((f for f in (folder, folder.parent) if (f / "status.json").is_file()), None)
    if run is None:
        sources.check_folder(folder, key)
        return Origin(str(folder), None, folder.resolve().name)
    record = read_json(run / "result.json")
    if not isinstance(record, dict):
        status = read_json(run / "status.json") or {}
        raise LabError(
            f"{key}: the run {run.name} is not completed ({status.get('state')}); "
            "start the command that made it again, and it goes on"
        )
    product = folder if run != folder else _product(run, record, key)
    sources.check_folder(product, key)
    return Origin(str(product), None, run.name, record)


def _product(run: Path, record: dict[str, Any], key: str) -> Path:
    for name in PRODUCTS:
        if (run / name).is_dir():
            return run / name
    student = (record.get("source") or {}).get("run")
    hint = f" Its student is the run {student}." if student else ""
    hint += " It keeps its model with tune.save_model=true." if record.get("command") == "finetune" else ""
    raise LabError(f"{key}: the run {run.name} of `{record.get('command')}` holds no model.{hint}")


def _find_run(name: str, runs: Path, key: str) -> Path:
    names: dict[str, list[Path]] = {}
    for folder in _run_folders(runs):
        match = _RUN_FOLDER.fullmatch(folder.name)
        for known in {folder.name, *(match.groups() if match else ())}:
            names.setdefault(known, []).append(folder)
    found = names.get(name, [])
    if len(found) > 1:
        shown = ", ".join(f.name for f in found)
        raise LabError(f"{key}={name} names {len(found)} runs: {shown}. Give an identity (the last part)")
    if not found:
        raise LabError(
            f"{key}={name}: there is no such run in {runs}, and no such folder.{nearest(name, names)} "
            "`minilm-lab runs` lists them; a model of the hub is <owner>/<name>"
        )
    return found[0]


def _run_folders(runs: Path) -> Iterator[Path]:
    try:
        yield from sorted(path.parent for path in runs.glob("*/*/status.json"))
    except OSError as error:
        raise LabError(f"paths.runs={runs} cannot be read ({error.strerror or error})") from error
