"""A task's data is read when a run learns from it. While runs are planned, what was found in the same files will do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilm_lab import config
from minilm_lab.data.reading import place_of
from minilm_lab.data.splits import Splits, texts
from minilm_lab.errors import LabError
from minilm_lab.models import cost
from minilm_lab.runs.files import read_json, write_json
from minilm_lab.runs.fingerprints import Unsettled, states
from minilm_lab.tasks.base import Task

if TYPE_CHECKING:
    from datasets import Dataset

SAMPLE = 500
"""Examples of a split by which its tokens are estimated."""


@dataclass(frozen=True)
class TaskData:
    """What a task's data is, and the way to it."""

    task: Task
    hub: str | None
    cache: Path
    fingerprint: str
    """Checksum of the content."""
    sizes: list[tuple[int, float]]
    """Of each split, train first: its examples, and the tokens of one on average, about."""

    @cached_property
    def splits(self) -> Splits:
        """The data; LabError if it is not any more what it was when the run was planned."""
        splits = self.task.load(self.hub, self.cache)
        if splits.checksum() != self.fingerprint:
            raise LabError(f"task={self.task.name}: its data was changed meanwhile; start the command again")
        return splits


def data_of(task: Task, hub: str | None, cache: Path) -> TaskData:
    """The data of a task: read, unless it was before and nothing touched its files since.

    Files are those that the task's settings name, here or in the local hub; what comes from elsewhere is read each time,
    unless it is pinned.
    """
    place = _place(task, hub, cache)
    known = None if place is None else read_json(place)
    if isinstance(known, dict) and isinstance(known.get("sizes"), list):
        return TaskData(task, hub, cache, known["fingerprint"], [(n, t) for n, t in known["sizes"]])
    splits = task.load(hub, cache)
    parts = (splits.train, *splits.judged.values())
    sizes = [(len(part), _tokens(part, task.length)) for part in parts]
    data = TaskData(task, hub, cache, splits.checksum(), sizes)
    data.__dict__["splits"] = splits
    if place is not None and place == _place(task, hub, cache):
        with suppress(OSError):
            write_json(place, {"task": task.name, "fingerprint": data.fingerprint, "sizes": sizes})
    return data


def _tokens(split: Dataset, longest: int) -> float:
    """Tokens of an example, on average, from its characters; as many as may be where it is no text."""
    if "text" not in split.column_names:
        return longest
    some = texts(split.select(range(min(SAMPLE, len(split)))))
    lengths = [min(longest, (len(a) + len(b or "")) / cost.CHARACTERS + 3) for a, b in some]
    return sum(lengths) / max(1, len(lengths))


def _place(task: Task, hub: str | None, cache: Path) -> Path | None:
    """Where it is remembered, by settings, files and the code that reads them; None where that is not known for sure."""
    code = Path(__file__).parents[1]
    try:
        named = [_local(path, hub) for path in _paths(config.plain(task))]
        files = states(named)
        reader = states([*(code / "tasks").rglob("*.py"), *(code / "data").rglob("*.py")], settled=False)
    except (OSError, Unsettled):
        return None
    if not files and not task.pinned:
        return None
    text = json.dumps([type(task).__qualname__, repr(task), hub, files, reader])
    return cache / "fingerprints" / f"task-{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}.json"


def _paths(values: Mapping[str, Any]) -> Iterator[str]:
    """The settings that name data, at any depth."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _paths(value)
        elif "path" in name and value is not None:
            yield str(value)


def _local(path: str, hub: str | None) -> Path:
    """Where `open_data` finds it; OSError for what comes from the hub itself."""
    place = place_of(path, hub)
    if place is None:
        raise FileNotFoundError(path)
    return place
