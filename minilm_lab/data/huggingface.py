"""Rows of data sets in the hub's layout: from the hub, or from a folder laid out like it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from minilm_lab.data.files import missing_column, text_of
from minilm_lab.errors import LabError, nearest
from minilm_lab.runs.fingerprints import file_checksums

_ROWS = 512


def local_copy(path: str, hub: str | None) -> Path | None:
    """Return the folder ``<hub>/<path>`` of a data set, or None if there is no local hub.

    Raises:
        LabError: the local hub lacks the data set.
    """
    if hub is None:
        return None
    folder = Path(hub).expanduser() / path
    if not folder.is_dir():
        there = sorted(
            str(readme.parent.relative_to(Path(hub).expanduser()))
            for pattern in ("*/README.md", "*/*/README.md")
            for readme in Path(hub).expanduser().glob(pattern)
        )
        raise LabError(
            f"paths.hub={hub} has no '{path}'; it has: {', '.join(there) or 'no data set'}.{nearest(path, there)} "
            "Add it there, choose another corpus, or leave paths.hub out to use the hub itself."
        )
    return folder


def data_checksums(folder: Path, config: str | None, split: str, cache: Path) -> list[str]:
    """Return the checksums of the data files of one split, in the order in which they are read; `cache` remembers them.

    Raises:
        LabError: the folder has no such configuration or split, or no data.
    """
    import datasets

    try:
        files = datasets.load_dataset_builder(str(folder), config).config.data_files or {}
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise _cannot_load(str(folder), error) from error
    if split not in files:
        raise LabError(f"{folder} has no split '{split}'; it has: {', '.join(map(str, files))}.")
    return file_checksums([Path(file) for file in files[split]], cache)


def texts(
    where: str | Path, config: str | None, split: str, column: str, *, revision: str | None = None
) -> Iterator[str]:
    """Yield the non-empty texts of one column.

    Args:
        where: a folder (read in place, without a copy), or the id of a data set on the hub (downloaded by
            `datasets` into its own cache).
        config: the data set's configuration, such as ``20231101.en``; None if it has one only.
        split: such as ``train``.
        column: the text column.
        revision: of a data set on the hub.

    Raises:
        LabError: it cannot be loaded, or has no such column.
    """
    import datasets

    local = isinstance(where, Path)
    if not local:
        _check_reachable(str(where))
    try:
        rows = datasets.load_dataset(
            str(where), config, split=split, streaming=local, revision=None if local else revision
        )
        batches: Iterator[dict[str, list[Any]]] = rows.iter(batch_size=_ROWS)
        columns = rows.column_names
        if columns is None:  # a stream may know its columns from its first rows only
            head = list(islice(batches, 1))
            columns = list(head[0]) if head else [column]
            batches = chain(head, batches)
        if column not in columns:
            raise missing_column(str(where), column, columns)
        if rows.column_names is not None:
            batches = rows.select_columns([column]).iter(batch_size=_ROWS)
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise _cannot_load(str(where), error) from error
    for batch in batches:
        for value in batch[column]:
            yield from text_of(value, str(where), column)


def _check_reachable(path: str) -> None:
    """Raise LabError within seconds if the hub or the data set cannot be reached (`datasets` retries for 20 s)."""
    from minilm_lab import hub_access  # here, because the hub's client takes a while to import

    if hub_access.offline():
        return  # the user says that it is in the cache of `datasets`; loading tells if it is not
    error = hub_access.why_not(path, "dataset")
    if error is not None:
        raise _cannot_load(path, error) from error


def _cannot_load(where: str, error: Exception) -> LabError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return LabError(
        f"cannot load the data set '{where}': {reason}. Without the hub, point paths.hub to a folder with a copy "
        "in the hub's layout (<owner>/<name>/), or use your own text: corpus=path corpus.path=<file or folder>. "
        "If `datasets` has it in its cache, set HF_HUB_OFFLINE=1."
        if not Path(where).is_dir()
        else f"cannot load the data set in {where}: {' '.join(str(error).split())}."
    )
