"""The sentences of Hutto & Gilbert (ICWSM 2014), rated by people, out of the source distribution of vaderSentiment."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minilm_lab.data.holdout import position
from minilm_lab.registry import download

REQUIREMENT = "vaderSentiment==3.3.2"
FILES = {
    "movie": "movieReviewSnippets_GroundTruth.txt",
    "product": "amazonReviewSnippets_GroundTruth.txt",
    "editorial": "nytEditorialSnippets_GroundTruth.txt",
    "tweet": "tweets_GroundTruth.txt",
}
"""Domain -> its file of ratings. Tweets have no entry in `DOMAINS`: they are unlabelled text."""
DOMAINS = ("movie", "product", "editorial")
MAX_DEV_FRACTION = 0.2
"""No dev set may take more than this share, so that `unlabelled` knows what to leave out."""


@dataclass(frozen=True)
class Sentence:
    """A rated sentence; copies of it are merged into one."""

    id: str
    text: str
    rating: float
    key: str

    @property
    def hash(self) -> float:
        """Uniform in [0, 1), a function of the key alone."""
        return position((self.key, None))


def rated(domains: Iterable[str], cache: Path) -> list[Sentence]:
    """The sentences of these domains, copies merged."""
    return _merge([sentence for domain in domains for sentence in _read(domain, cache)])


def unlabelled(cache: Path) -> list[str]:
    """All sentences of all four files except those that a dev set may hold, in the order of the files.

    Copies are merged, so every sentence appears once.
    """
    known = rated(DOMAINS, cache)
    held_out = {s.key for s in known if s.hash < MAX_DEV_FRACTION}
    return [s.text for s in _merge(known + _read("tweet", cache)) if s.key not in held_out]


def _merge(sentences: list[Sentence]) -> list[Sentence]:
    """One sentence for each key, in the order of first appearance, with the mean rating of its copies."""
    ratings: dict[str, list[float]] = {}
    first: dict[str, Sentence] = {}
    for s in sentences:
        ratings.setdefault(s.key, []).append(s.rating)
        first.setdefault(s.key, s)
    means = {
        key: values[0] if len(values) == 1 else float(np.mean(values)) for key, values in ratings.items()
    }
    return [Sentence(s.id, s.text, means[key], key) for key, s in first.items()]


def _read(domain: str, cache: Path) -> list[Sentence]:
    archive = download(REQUIREMENT, cache, source=True)
    inner = f"{archive.name.removesuffix('.tar.gz')}/additional_resources/hutto_ICWSM_2014.tar.gz"
    ratings = _member(_member(archive.read_bytes(), inner), f"hutto_ICWSM_2014/{FILES[domain]}")
    sentences = []
    for line in ratings.decode().splitlines():
        number, rating, text = line.split("\t")
        # Punctuation alone ("...", "!") has no words: there the text itself is the key.
        key = " ".join(re.findall(r"\w+", text.casefold())) or text.strip()
        sentences.append(Sentence(f"{domain}-{number}", text.strip(), float(rating), key))
    return sentences


def _member(archive: bytes, name: str) -> bytes:
    """The content of the file `name` in a tar archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        file = files.extractfile(name)
        assert file is not None, name
        return file.read()
