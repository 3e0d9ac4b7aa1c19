"""The corpus that every installation has: docstrings and the unlabelled sentences of the embedded task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from minilm_lab.data import rated_sentences
from minilm_lab.data.checksum import settings_checksum
from minilm_lab.data.corpus import Corpus
from minilm_lab.data.docstrings import docstrings, versions
from minilm_lab.errors import LabError


@dataclass
class EmbeddedCorpus(Corpus):
    """Docstrings of the installed packages, then unlabelled review sentences; needs no model or data hub."""

    written_specials: ClassVar[bool] = (
        True  # docstrings of tokenizers; what was measured on them stays comparable
    )

    name: str = "embedded"

    docstring_characters: int = 8_000_000
    """Characters of docstrings (4 are about one token); 0 = none. All there are: about 40 million."""

    sentences: bool = True
    """Whether to add the sentences of the embedded sentiment task, without those of its dev split."""

    def __post_init__(self) -> None:
        if self.docstring_characters < 0:
            raise LabError(
                f"corpus.docstring_characters={self.docstring_characters} is negative; 0 means none."
            )
        if self.docstring_characters == 0 and not self.sentences:
            raise LabError(
                "corpus.docstring_characters=0 and corpus.sentences=false leave no text; turn one of them on."
            )

    def documents(self, hub: str | None, cache: Path) -> Iterator[str]:
        if self.docstring_characters:
            yield from docstrings(self.docstring_characters)
        if self.sentences:
            yield from self._sentences(cache)

    def fingerprint(self, hub: str | None, cache: Path) -> str:
        return settings_checksum(
            {
                "docstring_characters": self.docstring_characters,
                "versions": versions() if self.docstring_characters else None,
                "sentences": settings_checksum(self._sentences(cache)) if self.sentences else None,
            }
        )

    @staticmethod
    def _sentences(cache: Path) -> list[str]:
        return rated_sentences.unlabelled(cache)
