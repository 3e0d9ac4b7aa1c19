"""Open a data set: the hub's, a local copy in the hub's layout, a folder of plain files, or one file."""

from __future__ import annotations

import csv
import logging
import re
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from datasets.table import CastError
from huggingface_hub import constants

from minilm_lab import hub_access
from minilm_lab.errors import LabError, nearest
from minilm_lab.paths import is_there

log = logging.getLogger(__name__)

#: Ending of a file -> the builder of `datasets` that reads it, and its settings.
BUILDERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"sep": "\t"}),
    ".jsonl": ("json", {}),
    ".json": ("json", {}),
    ".parquet": ("parquet", {}),
}


class NoSuchConfigError(LabError):
    """The data set is there, but it has no configuration of this name."""


def open_data(
    path: str, config: str | None, hub: str | None, cache: Path, *, key: str = "task", quotes: bool = True
) -> datasets.DatasetDict:
    """Return all splits of `path`, a folder, a file or a hub id, in its configuration `config`.

    A hub id is looked for in the folder `hub` first. A file is one split, named "train". `quotes`: whether
    CSV and TSV files quote cells; `key`: where the settings path and config stand, a group ("task") or the start of
    their names ("task.test_"), for errors.
    Raises LabError when there is nothing to open.
    """
    key = key if key.endswith("_") else f"{key}."
    places = (Path(path), *([Path(hub) / path] if hub else []))
    place = next((p for p in places if is_there(p)), None)
    if place is None and not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", path):
        raise LabError(f"{key}path={path}: no such folder or file.")
    if place is not None and place.is_file() and place.suffix not in BUILDERS:
        raise LabError(
            f"{key}path={path}: files of this kind cannot be read; they end in {', '.join(BUILDERS)}."
        )
    settings = {} if quotes else {"quoting": csv.QUOTE_NONE}
    try:
        data = _load(place or path, config, cache, settings)
    except ValueError as error:
        available = re.search(r"Available: \[(.*)\]", str(error))
        if available is None:
            raise LabError(f"{key}path={path}: {_first_line(error)}") from error
        names = [name.strip(" '\"") for name in available[1].split(",")]
        raise NoSuchConfigError(
            f"{key}config={config}: {path} has no such configuration; it has: {', '.join(names)}."
            f"{nearest(str(config), names)}"
        ) from error
    except (DatasetNotFoundError, DatasetGenerationError, OSError) as error:
        if isinstance(error.__cause__, CastError):
            raise LabError(
                f"{key}path={path}: its files have different columns. Keep only those of the training and the "
                f"dev split there (a test file without labels cannot stay), or name the files: "
                f"task.path=…/train.csv task.dev_path=…/dev.csv."
            ) from error
        if place is not None:
            raise _unreadable(place, f"{key}path={path}", error) from error
        tried = f" and it is not in paths.hub={hub}" if hub else ""
        raise LabError(
            f"{key}path={path}: the data hub cannot be reached or has no such data set{tried}. Point paths.hub to "
            f"a folder that holds it as {path}/, or {key}path to the folder itself. ({_first_line(error)})"
        ) from error
    except Exception as error:  # the reader stumbles over what it did not foresee, such as an empty file
        raise _unreadable(place or Path(path), f"{key}path={path}", error) from error
    if place is not None:
        _check_lines(place, sum(map(len, data.values())), key)
    return data


def _unreadable(place: Path, where: str, error: BaseException) -> LabError:
    """What is wrong with local files that could not be read, as far as one can see."""
    files = [place] if place.is_file() else sorted(f for f in place.rglob("*") if f.suffix in BUILDERS)
    for file in files:
        if (
            file.suffix != ".parquet"
            and _is_text(file)
            and _lines(file, 2) < (2 if file.suffix in (".csv", ".tsv") else 1)
        ):
            return LabError(f"{where}: {file.name} has no examples.")
    reason = _first_line(error.__cause__ or error)
    hint = ""
    if re.search(r"truncated converting|[Cc]ould not convert|Couldn't cast|changed from", reason):
        hint = " A column holds other kinds of values in one place than in another: write them alike (1.0 among 0.5)."
    return LabError(f"{where}: cannot be read: {reason[:500]}{hint}")


def _is_text(file: Path) -> bool:
    with file.open("rb") as stream:
        start = stream.read(1 << 16)
    return b"\0" not in start and start.decode(errors="ignore").encode() == start


def _lines(file: Path, most: int) -> int:
    """How many lines that are not blank a file has, counted up to `most`."""
    count = 0
    with file.open("rb") as stream:
        for line in stream:
            count += bool(line.strip())
            if count == most:
                break
    return count


def _load(
    place: Path | str, config: str | None, cache: Path, settings: dict[str, Any]
) -> datasets.DatasetDict:
    bars, offline = not datasets.are_progress_bars_disabled(), constants.HF_HUB_OFFLINE
    datasets.disable_progress_bars()
    kept = str(cache / "datasets")
    try:
        if isinstance(place, Path) and place.is_file():
            builder, reading = BUILDERS[place.suffix]
            reading = reading | (settings if builder == "csv" else {})
            return datasets.load_dataset(builder, data_files=str(place), cache_dir=kept, **reading)
        if isinstance(place, str) and not hub_access.answers(place, "dataset"):
            # Offline mode answers at once from what was loaded before; without it, five retries take 25 s.
            constants.HF_HUB_OFFLINE = True
        # Only the reader of CSV and TSV files knows their settings.
        tables = isinstance(place, Path) and any(f.suffix in (".csv", ".tsv") for f in place.rglob("*"))
        return datasets.load_dataset(str(place), config, cache_dir=kept, **(settings if tables else {}))
    finally:
        constants.HF_HUB_OFFLINE = offline
        if bars:
            datasets.enable_progress_bars()


def _check_lines(place: Path, rows: int, key: str) -> None:
    """Warn when TSV files have more lines than rows: quotation marks that are text join lines, silently."""
    files = [place] if place.is_file() else [f for f in sorted(place.iterdir()) if f.is_file()]
    if not files or any(file.suffix != ".tsv" for file in files):
        return
    lines = 0
    for file in files:
        with file.open("rb") as stream:
            lines += sum(1 for line in stream if line.strip()) - 1
    if lines != rows:
        log.warning(
            "%spath=%s: %d lines became %d rows: quotation marks at the start of a cell join lines. "
            "If they are text, as in the files of GLUE, set task.quotes=false.",
            key,
            place,
            lines,
            rows,
        )


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
