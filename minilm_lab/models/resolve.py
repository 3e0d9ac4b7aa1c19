"""Which model a user means: a run by identity or name, a folder, an embedded model, or a model of the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from minilm_lab.errors import LabError, nearest
from minilm_lab.models.folders import folder_checksum, model_folder
from minilm_lab.models.merging import usable_folder
from minilm_lab.paths import is_there
from minilm_lab.registry import EMBEDDED_MODELS, embedded_model
from minilm_lab.runs.files import read_json

PRODUCTS = ("student", "model")
"""Folders of a run that may hold its model."""
_RUN_FOLDER = re.compile(r"(?P<slug>.+)-(?P<identity>[0-9a-f]{8,64})")
_HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class Model:
    """Where a model is, and what it is called. Nothing of it is loaded."""

    where: str
    """A folder or a hub id, for from_pretrained."""
    revision: str | None
    """Commit or tag on the hub."""
    title: str
    """Name for people: of the run, the folder, the embedded model, or the hub id."""
    package: str | None = None
    """Its name among the embedded models."""
    record: dict[str, Any] | None = None
    """`result.json` of the run that made it."""
    cache: Path | None = None
    """Remembers checksums of files."""

    @property
    def folder(self) -> Path | None:
        """The folder, or None for a model of the hub."""
        return Path(self.where) if Path(self.where).is_dir() else None

    @property
    def run(self) -> str | None:
        """Identity of the run that made it."""
        return None if self.record is None else str(self.record["identity"])

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What of it decides a result, not where it lies; of a folder that no run made, a checksum of its files."""
        if self.run is not None:
            return {"run": self.run}
        if self.package is not None:
            return {"package": self.package}
        if self.folder is not None:
            return {"folder": folder_checksum(self.folder, self.cache)}
        return {"hub": self.where, **({"revision": self.revision} if self.revision else {})}

    @property
    def origin(self) -> dict[str, Any]:
        """For records: {"kind": "run" | "path", "run": identity or None, "config": what decides it}."""
        if self.record is not None:
            return {"kind": "run", "run": self.run, "config": self.record.get("config")}
        return {"kind": "path", "run": None, "config": self.identity}

    @property
    def distilled_length(self) -> int | None:
        """Tokens a block in distillation; positions behind it have seen no training. None where that is unknown."""
        record = self.record or {}
        length = ((record.get("config") or {}).get("scale") or {}).get("length")
        return length if isinstance(length, int) and record.get("command") == "distill" else None


def resolve(source: str, *, runs: Path, cache: Path, key: str) -> Model:
    """Return the model `source`; LabError, naming the setting `key`, if there is none.

    source: identity, name or folder name of a run in `runs`; a run's folder; a folder that save_pretrained wrote, or
    one of a hub cache, or one with an adapter of peft, which is merged into the model that it names; the name of an
    embedded model, which is fetched into `cache` on first use; a hub id, <owner>/<name> or <owner>/<name>@<revision>.
    What exists as a folder, or starts like a path, is a folder.
    """
    folder = Path(source).expanduser()
    if is_path(source):
        return _in_folder(folder, cache, key)
    if hub := _HUB_ID.fullmatch(source):
        return Model(hub["id"], hub["revision"], source)
    if source in EMBEDDED_MODELS:
        return Model(str(embedded_model(source, cache)), None, source, package=source)
    return _in_folder(find_run(source, runs, key), cache, key)


def is_path(source: str) -> bool:
    """Whether `source` can only be meant as a path."""
    folder = Path(source).expanduser()
    if is_there(folder) or source.startswith((".", "/", "~")):
        return True
    # More than one slash, or `a` of `a/b` is a folder here.
    return len(folder.parts) > 2 or (len(folder.parts) == 2 and folder.parent.is_dir())


def _in_folder(folder: Path, cache: Path, key: str) -> Model:
    run = next((f for f in (folder, folder.parent) if is_there(f / "status.json")), None)
    if run is None:
        place = usable_folder(folder, cache, key)
        return Model(str(place), None, folder.resolve().name, cache=cache)
    record = read_json(run / "result.json")
    if not isinstance(record, dict):
        status = read_json(run / "status.json") or {}
        raise LabError(
            f"{key}: the run {run.name} is not completed ({status.get('state')}); "
            "start the command that made it again, and it goes on"
        )
    product = model_folder(folder if run != folder else _product(run, record, key), key)
    return Model(str(product), None, run.name, record=record, cache=cache)


def _product(run: Path, record: dict[str, Any], key: str) -> Path:
    for name in PRODUCTS:
        if (run / name).is_dir():
            return run / name
    student = (record.get("source") or {}).get("run")
    hint = f" Its student is the run {student}." if student else ""
    hint += " It keeps its model with tune.save_model=true." if record.get("command") == "finetune" else ""
    raise LabError(f"{key}: the run {run.name} of `{record.get('command')}` holds no model.{hint}")


def find_run(name: str, runs: Path, key: str) -> Path:
    """The folder of the run `name` in `runs`: its identity, its name, or both as the folder has them.

    LabError, naming the setting `key` and what is near, if there is none or more than one.
    """
    names: dict[str, list[Path]] = {}
    for folder in _run_folders(runs):
        match = _RUN_FOLDER.fullmatch(folder.name)
        for known in {folder.name, *(match.groups() if match else ())}:
            names.setdefault(known, []).append(folder)
    matches = names.get(name, [])
    if len(matches) > 1:
        shown = ", ".join(f.name for f in matches)
        raise LabError(f"{key}={name} names {len(matches)} runs: {shown}. Give an identity (the last part)")
    if not matches:
        raise LabError(
            f"{key}={name}: there is no such run in {runs}, and no such folder.{nearest(name, [*names, *EMBEDDED_MODELS])} "
            "`minilm-lab runs` lists them; a model of the hub is <owner>/<name>; models out of packages: "
            f"{', '.join(EMBEDDED_MODELS)}"
        )
    return matches[0]


def _run_folders(runs: Path) -> Iterator[Path]:
    try:
        yield from sorted(path.parent for path in runs.glob("*/*/status.json"))
    except OSError as error:
        raise LabError(f"paths.runs={runs} cannot be read ({error.strerror or error})") from error
