"""A line a reply, on the disk before it is used: what was answered is never asked, or paid, again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path

from minilm_lab.errors import LabError
from minilm_lab.studies.authoring.expansion.teachers import Reply, Request

log = logging.getLogger(__name__)


def key_of(request: Request) -> str:
    """A request's name in a journal: of its content alone, so that a journal can be replayed elsewhere."""
    text = json.dumps(asdict(request), ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Journal:
    """Replies by request; a line that a crash cut off is left out, and written over."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.replies: dict[str, Reply] = {}
        if not file.is_file():
            return
        content = file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.decode().splitlines(), 1):
            try:
                values = json.loads(line)
                key = values.pop("key")
                self.replies[key] = Reply(**values)
            except (ValueError, KeyError, TypeError) as error:
                raise LabError(f"{file}, line {number}: no line of a journal ({error})") from error
        if len(whole) < len(content):
            log.warning("%s: its last line was cut off and is left out", file)
            with file.open("r+b") as stream:
                stream.truncate(len(whole))

    def note(self, request: Request, reply: Reply) -> None:
        """Keep a reply; on return it is on the disk."""
        key = key_of(request)
        self.replies[key] = reply
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"key": key, **reply.plain()}, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
