"""Settings that every evaluator of the study shares: which files, which dates, how titles become vectors."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import torch
from torch import Tensor

from minilm_lab.data.kept import kept
from minilm_lab.errors import LabError
from minilm_lab.evaluation.base import Evaluator
from minilm_lab.models.encoder import Encoder
from minilm_lab.once import once
from minilm_lab.runs.fingerprints import file_checksums
from minilm_lab.runs.identity import identity_of
from minilm_lab.studies.merrec import GENERATED, log, prepare, vectors
from minilm_lab.studies.merrec.generator import Settings
from minilm_lab.studies.merrec.source import Source

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)
TITLES = ("encoder", "words", "none")


@dataclass
class Dated(Evaluator):
    """A log of a marketplace, cut in time: what comes before is learned from, what comes after is judged."""

    path: Optional[str] = None
    """A folder of months, absolute or in `paths.hub`; null = a generated month."""
    months: list[str] = field(default_factory=list)
    """Such as 20230501; [] = all that are there."""
    users: int = 2000
    """Of a generated month."""
    generator_seed: int = 0
    """Of it."""
    judged_from: str = "2023-05-29"
    """The first day that is judged; everything before is learned from."""
    judged_before: str = "2023-06-01"
    """The first day that is not."""
    titles: str = "encoder"
    """encoder = the model's vectors | words = hashes of words | none = numbers of items alone; the last two read no model."""
    seeds: list[int] = field(default_factory=lambda: [0])
    """Of what is trained; metrics are means over them."""
    length: int = 32
    """Tokens of a title."""
    batch_size: int = 128
    """Titles a forward pass."""
    memory: str = "2GB"
    """Of DuckDB, which turns files into numbers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("users", "length", "batch_size"):
            if getattr(self, name) < 1:
                raise LabError(f"evaluator.{name}={getattr(self, name)} must be at least 1.")
        if self.titles not in TITLES:
            raise LabError(f"evaluator.titles={self.titles}: choose one of {', '.join(TITLES)}.")
        if not self.seeds:
            raise LabError("evaluator.seeds=[]: give one or more, such as [0,1,2].")
        if _day("judged_from", self.judged_from) >= _day("judged_before", self.judged_before):
            raise LabError(
                f"evaluator.judged_from={self.judged_from} must lie before judged_before={self.judged_before}."
            )
        self._content: list[str] = []
        self._cache = Path(".cache")

    def identity(self) -> dict[str, Any]:
        """See `Evaluator.identity`; the data by its content."""
        how = ("path", "batch_size", "memory")
        plain = {name: value for name, value in super().identity().items() if name not in how}
        return {**plain, "data": self._content}

    def prepare(self, hub: str | None, cache: Path) -> None:
        """Turn the files into numbers, once, and read them."""
        self._cache = cache
        source = Source(self.path, tuple(self.months), Settings(self.users, self.generator_seed), hub, cache)
        files = source.shards()
        self._generated = files.generated
        self._content = (
            [source.settings.identity] if self.path is None else file_checksums(list(files.files), cache)
        )
        name = identity_of("merrec_prepared", {"version": prepare.VERSION, "files": self._content})
        folder = cache / "merrec" / f"prepared-{name}"
        self._counts = kept(
            folder,
            prepare.counts_of,
            lambda place: _written(files, place, cache, self.memory),
            (OSError, ValueError, KeyError, TypeError),
            "another process prepares the files",
        )
        self._log = once(("merrec_log", str(folder)), lambda: log.read(folder))

    def wrap(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Encoder:
        """See `Evaluator.wrap`: the mean of the tokens' vectors."""
        return Encoder(model, tokenizer, length=self.length, batch_size=self.batch_size)

    def open(self, where: str, revision: str | None) -> Encoder:
        """See `Evaluator.open`."""
        return Encoder.load(where, revision, length=self.length, batch_size=self.batch_size)

    def _vectors(self, model: Encoder) -> Tensor | None:
        """(titles, width) float32, or None for numbers alone."""
        if self.titles == "none":
            return None
        if self.titles == "words":
            return torch.from_numpy(vectors.hashed_words(self._log.titles))
        return torch.from_numpy(
            np.asarray(vectors.of_titles(model, self._log.titles, self._cache), dtype=np.float32)
        )

    def _facts(self) -> dict[str, Any]:
        """Of the data, for the record."""
        return {"data": GENERATED if self._generated else "files", **self._counts.__dict__}


def _written(files: Any, place: Path, cache: Path, memory: str) -> None:
    prepare.prepare(files, place, cache / "merrec" / "spill", memory=memory)


def _day(name: str, day: str) -> int:
    """Seconds since 1970 of its first moment, UTC."""
    try:
        return int(np.datetime64(day, "s").astype(np.int64))
    except ValueError:
        raise LabError(f"evaluator.{name}={day} is no date; write 2023-05-29.") from None
