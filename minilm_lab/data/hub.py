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
from minilm_lab.data.huggingface import data_checksums, local_copy, texts
from minilm_lab.errors import LabError


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
            where = local_copy(source.path, hub) or source.path
            found = texts(where, source.config, source.split, source.text, revision=source.revision)
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
            else data_checksums(folder, source.config, source.split, cache)
        )
        return [content, source.text, source.rows.value, source.max_documents]


def _joined(lines: Iterator[str]) -> Iterator[str]:
    while group := list(islice(lines, LINES_PER_DOCUMENT)):
        yield " ".join(group)
