"""Features as files: one NumPy array a file, without pickle, read back through memory maps."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

INDEX = "index.json"
#: Only classes of the lab are made of files.
LAB = "minilm_lab."
#: Smaller files are read whole: a map of each would cost more.
_MAPPED = 1 << 20


class BrokenFiles(Exception):
    """The folder holds no whole features; the message says what is wrong with it."""


class CannotStore(Exception):
    """The features hold something that is neither numbers nor names; the message says what."""


def write(folder: Path, features: Any, notes: Mapping[str, Any]) -> None:
    """Write `features` and `notes` (JSON) into `folder`, which is there and empty; the index comes last.

    Raises CannotStore, and OSError where the disk does not take them.
    """
    if not is_dataclass(features) or not type(features).__module__.startswith(LAB):
        raise CannotStore(f"{type(features).__name__} is no dataclass of the lab")
    described = {
        field.name: _take_apart(field.name, getattr(features, field.name)) for field in fields(features)
    }
    checksums = {}
    for _, _, arrays in described.values():
        for name, array in arrays.items():
            with (folder / name).open("wb") as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
            checksums[name] = _checksum(folder / name)
    index = {
        "class": f"{type(features).__module__}:{type(features).__qualname__}",
        "fields": {name: {"kind": kind, "value": value} for name, (kind, value, _) in described.items()},
        "checksums": checksums,
        "notes": dict(notes),
    }
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def read(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The features and the notes that `write` was given, their files compared with their checksums.

    Raises BrokenFiles where something is missing or differs.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        for name, checksum in index["checksums"].items():
            if _checksum(folder / name) != checksum:
                raise BrokenFiles(f"the checksum of {name} differs from the one in {INDEX}")
        module, _, name = str(index["class"]).partition(":")
        if not module.startswith(LAB):
            raise BrokenFiles(f"{INDEX} names a class that is not of the lab")
        kind = getattr(importlib.import_module(module), name)
        values = {
            field: _put_together(folder, field, told["kind"], told["value"])
            for field, told in index["fields"].items()
        }
        return kind(**values), dict(index["notes"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise BrokenFiles(f"{type(error).__name__}: {error}") from error


def _take_apart(name: str, value: Any) -> tuple[str, Any, dict[str, np.ndarray]]:
    """(kind, JSON value, arrays by file name) of one field."""
    if value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
        return "value", value, {}
    if type(value) is tuple and all(type(part) is str for part in value):
        return "names", list(value), {}
    if type(value) is np.ndarray and not value.dtype.hasobject:
        return "array", None, {f"{name}.npy": value}
    if type(value) is list and _is_ragged(value):
        lengths = np.asarray([len(row) for row in value], dtype=np.int64)
        return "rows", None, {f"{name}.npy": np.concatenate(value), f"{name}.lengths.npy": lengths}
    raise CannotStore(f"{name} is a {type(value).__name__} of another kind")


def _is_ragged(rows: Sequence[Any]) -> bool:
    """Whether these are one or more arrays of one type that differ in their first dimension alone."""
    if not rows or not all(type(row) is np.ndarray and row.ndim for row in rows):
        return False
    first = rows[0]
    return not first.dtype.hasobject and all(
        row.dtype == first.dtype and row.shape[1:] == first.shape[1:] for row in rows
    )


def _put_together(folder: Path, name: str, kind: str, value: Any) -> Any:
    if kind == "value":
        return value
    if kind == "names":
        return tuple(value)
    if kind not in ("array", "rows"):
        raise BrokenFiles(f"{name} is of the unknown kind {kind!r}")
    whole = _load(folder / f"{name}.npy")
    if kind == "array":
        return whole
    ends = np.cumsum(_load(folder / f"{name}.lengths.npy")).tolist()
    if (ends[-1] if ends else 0) != len(whole):
        raise BrokenFiles(f"{name} has not the length that its rows have")
    return [whole[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _load(file: Path) -> np.ndarray:
    mapped = file.stat().st_size >= _MAPPED
    # As a plain array: a row of a memory map costs ten times as much to take.
    return np.asarray(np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False))


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
