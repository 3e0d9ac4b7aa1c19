"""Corpora from the hub: one or more data sets, read one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Optional

from omegaconf import MISSING

from minilm_lab.data.checksum import settings_checksum
from minilm_lab.data.corpus import Corpus
from minilm_lab.data.formats import Reading
from minilm_lab.data.reading import data_files_of
from minilm_lab.data.texts import documents, missing_column, text_of
from minilm_lab.errors import LabError, first_line, nearest
from minilm_lab.runs.fingerprints import file_checksums


class Rows(StrEnum):
    """What one row of a data set is."""

    documents = "documents"
    """A text of its own, such as an article."""

    lines = "lines"
    """A sentence of a running text, such as BookCorpus has: joined, so that no separator stands between them."""


#: Rows of a running text that become one document: long enough to hide the joints, short enough for memory.
LINES_PER_DOCUMENT = 1000


@dataclass
class HubSource:
    """One data set of a `HubCorpus`."""

    path: str = MISSING
    """Id on the hub, such as `wikimedia/wikipedia`; with `paths.hub` the folder of that name there."""

    config: Optional[str] = None
    """Configuration of the data set, such as `20231101.en`."""

    split: str = "train"
    """Split of the data set."""

    text: str = "text"
    """Column that holds the text."""

    revision: Optional[str] = None
    """Commit or tag on the hub, for exact repetition; null = the newest. A local copy has its checksum instead."""

    rows: Rows = Rows.documents
    """`documents`: a row is a text of its own. `lines`: rows are sentences of a running text."""

    max_documents: Optional[int] = None
    """Only the first so many documents; null = all."""


@dataclass
class HubCorpus(Corpus):
    """Data sets of the hub, or of a local copy of it, one after the other."""

    sources: dict[str, HubSource] = field(default_factory=dict)
    """Name -> data set. Named, so that one can be changed: `corpus.sources.books.path=...`."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise LabError("corpus.sources is empty; name at least one data set.")
        for name, source in self.sources.items():
            if source.max_documents is not None and source.max_documents < 1:
                raise LabError(
                    f"corpus.sources.{name}.max_documents={source.max_documents}: use 1 or more, or null for all."
                )

    def documents(self, hub: str | None, cache: Path) -> Iterator[str]:
        for source in self.sources.values():
            folder = local_copy(source.path, hub)
            found = _from_hub(source) if folder is None else _from_folder(source, folder)
            if source.rows is Rows.lines:
                found = _joined(found)
            yield from islice(found, source.max_documents)

    def fingerprint(self, hub: str | None, cache: Path) -> str:
        return settings_checksum(
            [self._source_settings(source, hub, cache) for source in self.sources.values()]
        )

    @staticmethod
    def _source_settings(source: HubSource, hub: str | None, cache: Path) -> list[object]:
        folder = local_copy(source.path, hub)
        content: object = (
            [source.path, source.config, source.split, source.revision]  # no network: a known run needs none
            if folder is None
            else file_checksums(data_files_of(folder, source.config, source.split, "corpus."), cache)
        )
        return [content, source.text, source.rows.value, source.max_documents]


def _joined(lines: Iterator[str]) -> Iterator[str]:
    while group := list(islice(lines, LINES_PER_DOCUMENT)):
        yield " ".join(group)


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


def _from_folder(source: HubSource, folder: Path) -> Iterator[str]:
    for file in data_files_of(folder, source.config, source.split, "corpus."):
        yield from documents(file, source.text, Reading(group="corpus"), lines=True)


def _from_hub(source: HubSource) -> Iterator[str]:
    """The non-empty texts of a data set on the hub, which `datasets` downloads into its own cache."""
    import datasets

    _check_reachable(source.path)
    try:
        table = datasets.load_dataset(
            source.path, source.config, split=source.split, revision=source.revision
        )
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise _cannot_load(source.path, error) from error
    if source.text not in table.column_names:
        raise missing_column(source.path, source.text, table.column_names)
    for batch in table.select_columns([source.text]).iter(batch_size=512):
        for value in batch[source.text]:
            yield from text_of(value, source.path, source.text)


def _check_reachable(path: str) -> None:
    """Raise LabError within seconds if the hub or the data set cannot be reached (`datasets` retries for 20 s)."""
    from minilm_lab import hub_access  # here, because the hub's client takes a while to import

    if hub_access.offline():
        return  # the user says that it is in the cache of `datasets`; loading tells if it is not
    error = hub_access.why_not(path, "dataset")
    if error is not None:
        raise _cannot_load(path, error) from error


def _cannot_load(path: str, error: Exception) -> LabError:
    return LabError(
        f"cannot load the data set '{path}': {first_line(error)}. Without the hub, point paths.hub to a folder with a "
        "copy in the hub's layout (<owner>/<name>/), or use your own text: corpus=path corpus.path=<file or folder>. "
        "If `datasets` has it in its cache, set HF_HUB_OFFLINE=1."
    )
