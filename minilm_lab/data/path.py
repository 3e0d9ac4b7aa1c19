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
from minilm_lab.data.files import SUFFIXES, checked_checksums, file_documents
from minilm_lab.data.huggingface import data_checksums, texts
from minilm_lab.errors import LabError
from minilm_lab.paths import is_there


@dataclass
class PathCorpus(Corpus):
    """Text files (UTF-8), JSON Lines, Parquet, a folder of those, or a data set in the hub's layout.

    In a plain text file, blank lines separate documents if there are any; otherwise each line is a document.
    With ``packing=sentences`` each line is a document in any case.
    """

    name: str = "path"

    path: str = MISSING
    """File or folder. In a folder: every .txt, .text, .jsonl, .ndjson, .json and .parquet file, by name."""

    text: str = "text"
    """Field of JSON objects or column of Parquet files that holds the text."""

    config: Optional[str] = None
    """Configuration of a folder in the hub's layout (README.md with `configs`); null if it has one only."""

    split: str = "train"
    """Split of a folder in the hub's layout."""

    max_documents: Optional[int] = None
    """Only the first so many documents; null = all."""

    def __post_init__(self) -> None:
        if self.max_documents is not None and self.max_documents < 1:
            raise LabError(f"corpus.max_documents={self.max_documents}: use 1 or more, or null for all.")

    def documents(self, hub: str | None, cache: Path) -> Iterator[str]:
        return islice(self._all_documents(), self.max_documents)

    def fingerprint(self, hub: str | None, cache: Path) -> str:
        folder = self._location()
        content = (
            data_checksums(folder, self.config, self.split, cache)
            if self._in_hub_layout(folder)
            else checked_checksums(self._files(folder), cache)
        )
        return settings_checksum([content, self.text, self.max_documents])

    def _all_documents(self) -> Iterator[str]:
        location = self._location()
        if self._in_hub_layout(location):
            yield from texts(location, self.config, self.split, self.text)
            return
        for file in self._files(location):
            yield from file_documents(file, self.text, lines=self.packing is Packing.sentences)

    def _location(self) -> Path:
        location = Path(self.path).expanduser()
        if not is_there(location):
            raise LabError(
                f"corpus.path={self.path} does not exist; give a text file or a folder of text files."
            )
        return location

    def _in_hub_layout(self, location: Path) -> bool:
        readme = location / "README.md"
        if self.config is not None:
            if not readme.is_file():
                raise LabError(
                    f"corpus.config={self.config} needs a folder in the hub's layout, but corpus.path={self.path} "
                    "has no README.md with `configs`; leave corpus.config out."
                )
            return True
        if not readme.is_file():
            return False
        head = readme.read_text(encoding="utf-8", errors="replace")
        return head.startswith("---") and "\nconfigs:" in head.split("\n---", 1)[0]

    def _files(self, location: Path) -> list[Path]:
        if location.is_file():
            return [location]
        found = [
            file
            for file in location.rglob("*")
            if file.suffix.lower() in SUFFIXES
            and file.is_file()
            and not any(part.startswith(".") for part in file.relative_to(location).parts)
        ]
        if not found:
            raise LabError(
                f"corpus.path={self.path} holds no text: looked for {', '.join(SUFFIXES)} files in it."
            )
        return sorted(found, key=lambda file: file.relative_to(location).as_posix())
