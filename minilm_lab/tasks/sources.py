"""Open a data set: the hub's, a local copy in the hub's layout, or a folder of plain files."""

from __future__ import annotations

import re
from pathlib import Path

import datasets
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from datasets.table import CastError
from huggingface_hub import constants

from minilm_lab import hub_access
from minilm_lab.errors import LabError, nearest


def open_data(path: str, config: str | None, hub: str | None, cache: Path) -> datasets.DatasetDict:
    """Return all splits of `path`, a folder or a hub id, in its configuration `config`.

    A hub id is looked for in the folder `hub` first. Raises LabError when there is nothing to open.
    """
    folder = next(
        (place for place in (Path(path), *([Path(hub) / path] if hub else [])) if place.exists()), None
    )
    if folder is None and not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", path):
        raise LabError(f"task.path={path}: no such folder.")
    if folder is not None and not folder.is_dir():
        raise LabError(
            f"task.path={path} is a file; give a folder that holds one file for each split, "
            f"such as train{folder.suffix} and validation{folder.suffix}."
        )
    try:
        return _load(str(folder or path), config, cache)
    except ValueError as error:
        available = re.search(r"Available: \[(.*)\]", str(error))
        if available is None:
            raise LabError(f"task.path={path}: {_first_line(error)}") from error
        names = [name.strip(" '\"") for name in available[1].split(",")]
        raise LabError(
            f"task.config={config}: {path} has no such configuration; it has: {', '.join(names)}."
            f"{nearest(str(config), names)}"
        ) from error
    except (DatasetNotFoundError, DatasetGenerationError, OSError) as error:
        if isinstance(error.__cause__, CastError):
            raise LabError(
                f"task.path={path}: its files have different columns. Keep only those of the training and the "
                f"dev split there (a test file without labels cannot stay)."
            ) from error
        if folder is not None:
            raise LabError(
                f"task.path={path}: cannot be read: {_first_line(error.__cause__ or error)}"
            ) from error
        tried = f" and it is not in paths.hub={hub}" if hub else ""
        raise LabError(
            f"task.path={path}: the data hub cannot be reached or has no such data set{tried}. Point paths.hub to "
            f"a folder that holds it as {path}/, or task.path to the folder itself. ({_first_line(error)})"
        ) from error


def _load(path: str, config: str | None, cache: Path) -> datasets.DatasetDict:
    bars, offline = not datasets.are_progress_bars_disabled(), constants.HF_HUB_OFFLINE
    datasets.disable_progress_bars()
    try:
        if not Path(path).is_dir() and not hub_access.answers(path, "dataset"):
            # Offline mode answers at once from what was loaded before; without it, five retries take 25 s.
            constants.HF_HUB_OFFLINE = True
        return datasets.load_dataset(path, config, cache_dir=str(cache / "datasets"))
    finally:
        constants.HF_HUB_OFFLINE = offline
        if bars:
            datasets.enable_progress_bars()


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
