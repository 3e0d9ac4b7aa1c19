"""Where events come from: files at hand, or a generated month, written once and kept in the cache."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from minilm_lab.data.kept import kept
from minilm_lab.errors import LabError
from minilm_lab.studies.merrec.generator import Settings, generate
from minilm_lab.studies.merrec.schema import Shards, shards

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Settings of a source."""

    path: str | None
    months: tuple[str, ...]
    settings: Settings
    hub: str | None
    cache: Path

    @property
    def generated(self) -> Path:
        """Where the generated month is kept."""
        return self.cache / "merrec" / f"generated-{self.settings.identity}"

    def shards(self) -> Shards:
        """The files; a generated month is written first where it is not there."""
        if self.path is not None:
            return shards(self.path, self.hub, only=self.months)
        return kept(
            self.generated,
            self._read,
            lambda folder: log.info("%d rows", generate(self.settings, folder)),
            LabError,
            "another process generates the month",
        )

    def _read(self, folder: Path) -> Shards:
        there = shards(folder, only=self.months)
        if not self.months and len(there.files) != self.settings.files:
            raise LabError(f"{len(there.files)} of {self.settings.files} files are there")
        return there
