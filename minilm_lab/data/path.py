"""The user's own text: a file, a folder of files, or a folder in the hub's layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Optional

from omegaconf import MISSING

from minilm_lab.data.checksum import settings_checksum
from minilm_lab.data.corpus import Corpus, Packing
from minilm_lab.data.folders import card_of, data_files
from minilm_lab.data.formats import KINDS, Reading
from minilm_lab.data.reading import data_files_of, is_saved, place_of
from minilm_lab.data.texts import documents, text_checksums
from minilm_lab.errors import LabError


@dataclass
class PathCorpus(Corpus):
    """Text files, CSV, TSV, JSON, Parquet, a folder of those, a data set in the hub's layout, or one that was saved.

    In a plain text file, blank lines separate documents if there are any; otherwise each line is a document.
    With ``packing=sentences`` each line is a document in any case.
    """

    name: str = "path"

    path: str = MISSING
    """File or folder. In a folder: every .txt, .md, .csv, .tsv, .jsonl, .json and .parquet file, by name, compressed
    (.gz, .bz2, .xz, .zst) or not; copies of a file that is there too are passed over, and said."""

    text: str = "text"
    """Field of JSON objects, or column of a table (CSV, TSV, Parquet), that holds the text."""

    encoding: Optional[str] = None
    """Encoding of text files, such as latin-1 or utf-16; null = UTF-8."""

    quotes: bool = True
    """Whether quotation marks around cells of CSV and TSV files belong to the file; false: they are text."""

    config: Optional[str] = None
    """Configuration of a folder in the hub's layout (README.md with `configs`); null if it has one only."""

    split: str = "train"
    """Split of a folder in the hub's layout."""

    max_documents: Optional[int] = None
    """Only the first so many documents; null = all."""

    def __post_init__(self) -> None:
        if self.max_documents is not None and self.max_documents < 1:
            raise LabError(f"corpus.max_documents={self.max_documents}: use 1 or more, or null for all.")
        self._reading()

    def documents(self, hub: str | None, cache: Path) -> Iterator[str]:
        return islice(self._all_documents(), self.max_documents)

    def fingerprint(self, hub: str | None, cache: Path) -> str:
        content = text_checksums(self._files(), cache, self._reading())
        return settings_checksum([content, self.text, self.encoding, self.quotes, self.max_documents])

    def _all_documents(self) -> Iterator[str]:
        for file in self._files():
            yield from documents(file, self.text, self._reading(), lines=self.packing is Packing.sentences)

    def _reading(self) -> Reading:
        return Reading(self.encoding, self.quotes, "corpus")

    def _files(self) -> list[Path]:
        location = place_of(self.path, None)
        if location is None:
            raise LabError(
                f"corpus.path={self.path} does not exist; give a text file or a folder of text files."
            )
        if location.is_file():
            return [location]
        if is_saved(location) or card_of(location).get("configs"):
            return data_files_of(location, self.config, self.split, "corpus.")
        if self.config is not None:
            raise LabError(
                f"corpus.config={self.config} needs a folder in the hub's layout, but corpus.path={self.path} "
                "has no README.md with `configs`; set corpus.config=null."
            )
        found = data_files(location, {*KINDS.values()} - {"arrow"})
        if not found:
            raise LabError(
                f"corpus.path={self.path} holds no text: looked for {', '.join(KINDS)} files in it."
            )
        return found
