"""A journal as a teacher: an expansion without a key, and without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from minilm_lab.errors import LabError
from minilm_lab.studies.authoring.expansion.journal import Journal, key_of
from minilm_lab.studies.authoring.expansion.teachers import Reply, Request, Teacher


class Replay(Teacher):
    """The replies of a journal that somebody shared: an expansion without a key."""

    def __init__(self, file: Path, name: str) -> None:
        if not file.is_file():
            raise LabError(f"teacher.path={file}: no such journal")
        self.known, self.name, self.file = Journal(file).replies, name, file

    def answer(self, requests: Sequence[Request]) -> list[Reply]:
        """See `Teacher.answer`; LabError for a request that the journal lacks."""
        found = [self.known.get(key_of(request)) for request in requests]
        if None in found:
            raise LabError(
                f"teacher.path={self.file}: the journal has no reply to one of the requests; it was made from other seeds, "
                "products or settings"
            )
        return [reply for reply in found if reply is not None]
