"""Tokenise once: every further run on the same texts with the same tokenizer reads its samples.

Samples are a dataclass of the lab; its arrays are NumPy files without pickle, read back through memory maps.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minilm_lab.data.kept import kept
from minilm_lab.runs.fingerprints import file_checksum

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

FORMAT = 3
"""Goes up whenever the same key would give other samples than before."""
INDEX = "index.json"
LAB = "minilm_lab."
"""Only classes of the lab are made of files."""
_MAPPED = 1 << 20
"""Smaller files are read whole: a map of each would cost more."""
_DECIDING = (
    "model_input_names",
    "padding_side",
    "truncation_side",
    "pad_token_id",
    "cls_token_id",
    "sep_token_id",
)
"""What decides tokens beside the rules of a fast tokenizer."""


class BrokenFiles(Exception):
    """The folder holds no whole samples; the message says what is wrong with it."""


class CannotStore(Exception):
    """The samples hold something that is neither numbers nor names; the message says what."""


def key_of(tokenizer: PreTrainedTokenizerBase, *what: Any) -> str | None:
    """32 hexadecimal digits of `what` decides the samples, with the tokenizer's rules and the libraries' versions.

    None for a tokenizer in Python, whose rules are code, and where `what` is no JSON.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    rules = json.loads(backend.to_str())
    for name in ("truncation", "padding"):  # left behind by the last call
        rules.pop(name, None)
    attributes = {name: str(getattr(tokenizer, name, None)) for name in _DECIDING}
    versions = {name: metadata.version(name) for name in ("tokenizers", "transformers")}
    try:
        text = json.dumps(
            [FORMAT, rules, attributes, versions, type(tokenizer).__name__, what], sort_keys=True
        )
    except (TypeError, ValueError):
        return None
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def cached(cache: Path, key: str | None, make: Callable[[], Any], title: str) -> Any:
    """Return the samples in ``<cache>/features/<key>/``; where they are not there, or broken, `make` them and keep them.

    The lab's warnings of `make` are given again when they come from there. What cannot be kept is made each time; a cache
    that cannot be written is a warning. title: whose samples, for messages.
    """
    made: list[Any] = []

    def write(folder: Path) -> None:
        with _warnings() as given:
            made.append(make())
        write_samples(folder, made[0], given)

    def read(folder: Path) -> Any:
        samples, given = read_samples(folder)
        if not made:
            for warning in given:
                log.warning("%s", warning)
        return samples

    if key is None:
        return make()
    waiting = f"Another process tokenises '{title}'; waiting for it."
    try:
        return kept(Path(cache) / "features" / key, read, write, BrokenFiles, waiting)
    except CannotStore as reason:
        log.debug("samples of %s are not kept: %s", title, reason)
    except OSError as error:
        log.warning("paths.cache: the tokens of '%s' are not kept: %s", title, error.strerror or error)
    return made[0] if made else make()


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what the lab warns of meanwhile."""
    given: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with suppress(Exception):
                given.append(record.getMessage())

    keep = Keep(logging.WARNING)
    lab = logging.getLogger("minilm_lab")
    lab.addHandler(keep)
    try:
        yield given
    finally:
        lab.removeHandler(keep)


def write_samples(folder: Path, samples: Any, warnings: Sequence[str]) -> None:
    """Write into `folder`, which is there and empty. Raises CannotStore, and OSError where the disk does not take them."""
    if not is_dataclass(samples) or not type(samples).__module__.startswith(LAB):
        raise CannotStore(f"{type(samples).__name__} is no dataclass of the lab")
    values: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for name in (field.name for field in fields(samples)):
        value = getattr(samples, name)
        if _is_plain(value):
            values[name] = value
        elif type(value) is np.ndarray and not value.dtype.hasobject:
            arrays[name] = value
        elif type(value) is list and _is_ragged(value):
            arrays[name] = np.concatenate(value)
            arrays[f"{name}.lengths"] = np.asarray([len(row) for row in value], dtype=np.int64)
        else:
            raise CannotStore(f"{name} is a {type(value).__name__} of another kind")
    for name, array in arrays.items():
        with (folder / f"{name}.npy").open("wb") as stream:
            np.lib.format.write_array(stream, array, allow_pickle=False)
    index = {
        "class": f"{type(samples).__module__}:{type(samples).__qualname__}",
        "values": values,
        "checksums": {name: file_checksum(folder / f"{name}.npy") for name in arrays},
        "warnings": list(warnings),
    }
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")


def read_samples(folder: Path) -> tuple[Any, list[str]]:
    """The samples and warnings that `write_samples` was given; BrokenFiles where something is missing or differs."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        for name, checksum in index["checksums"].items():
            if file_checksum(folder / f"{name}.npy") != checksum:
                raise BrokenFiles(f"the checksum of {name}.npy differs from the one in {INDEX}")
        module, _, name = str(index["class"]).partition(":")
        if not module.startswith(LAB):
            raise BrokenFiles(f"{INDEX} names a class that is not of the lab")
        arrays = {name: _load(folder / f"{name}.npy") for name in index["checksums"]}
        values = dict(index["values"])
        for name in [name for name in arrays if f"{name}.lengths" in arrays]:
            ends = np.cumsum(arrays.pop(f"{name}.lengths")).tolist()
            whole = arrays.pop(name)
            values[name] = [whole[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        kind = getattr(importlib.import_module(module), str(index["class"]).partition(":")[2])
        return kind(**values, **arrays), [str(warning) for warning in index["warnings"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise BrokenFiles(f"{type(error).__name__}: {error}") from error


def _is_plain(value: Any) -> bool:
    if type(value) is float:
        return math.isfinite(value)
    return value is None or type(value) in (bool, int, str)


def _is_ragged(rows: Sequence[Any]) -> bool:
    """Whether these are one or more arrays of one type that differ in their first dimension alone."""
    if not rows or not all(type(row) is np.ndarray and row.ndim for row in rows):
        return False
    first = rows[0]
    return not first.dtype.hasobject and all(
        row.dtype == first.dtype and row.shape[1:] == first.shape[1:] for row in rows
    )


def _load(file: Path) -> np.ndarray:
    mapped = file.stat().st_size >= _MAPPED
    # As a plain array: a row of a memory map costs ten times as much to take.
    return np.asarray(np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False))
