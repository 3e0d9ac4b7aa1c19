"""One instruction as one JSON line, and how it becomes an instruction, an input and an answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from minilm_lab.errors import LabError, nearest
from minilm_lab.studies.authoring import spec


@dataclass(frozen=True)
class Record:
    """A line of data; see docs/authoring.md."""

    task: str
    id: str
    object: dict[str, dict[str, str]]
    """{"customer": …, "seller": …, "platform": …}, each feature -> its text."""
    given: list[str]
    """Names of the features that the instruction gives."""
    asked: str
    """Name of the feature that it asks for."""
    output: str
    """The right answer; "" where nobody wrote one."""
    labels: list[str] | None
    """What the answer is one of."""
    source: str
    licence: str
    made_by: str
    """data, expert, or teacher:<name>."""

    def value(self, key: str) -> str:
        """The text of a feature; "" where the object lacks it."""
        return self.object.get(spec.FEATURES[key].whose, {}).get(key, "") if key in spec.FEATURES else ""

    def inputs(self) -> dict[str, str]:
        """What is given and there, in the order of `spec.FEATURES`: what may be long stands last, where it is cut."""
        return {key: self.value(key) for key in spec.FEATURES if key in self.given and self.value(key)}

    def input(self) -> str:
        """The same as text, a line each."""
        return "\n".join(f"{key.capitalize()}: {text}" for key, text in self.inputs().items())

    def instruction(self, wording: int) -> str:
        """The instruction in one of the task's wordings."""
        return spec.WORDINGS[self.task][wording].format(
            labels="; ".join(self.labels or []), asked=spec.PHRASES.get(self.asked, "")
        )

    def wording(self) -> int:
        """The wording that is this record's, of those that are trained on: a function of its id."""
        return number(self.id) % spec.HELD_OUT

    def thing(self) -> str:
        """What is before "/" in the id: records of one thing are on one side of a split."""
        return self.id.partition("/")[0]

    def line(self) -> str:
        """As JSON."""
        return json.dumps({f.name: getattr(self, f.name) for f in fields(self)}, ensure_ascii=False)


def position(record: Record) -> float:
    """Uniform in [0, 1), the same for all records of a thing."""
    return number(record.thing()) / 2**64


def place(record: Record) -> float:
    """Uniform in [0, 1), of the record alone: the order in which records are chosen."""
    return number(f"{record.task}\0{record.id}") / 2**64


def number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def parsed(values: Mapping[str, Any], where: str) -> Record:
    """A record of the fields of a line; LabError that says what is wrong with it."""
    names = [f.name for f in fields(Record)]
    for key in values:
        if key not in names:
            raise LabError(
                f"{where}: a record has no '{key}'.{nearest(key, names)} It has: {', '.join(names)}"
            )
    if missing := [name for name in names if name not in values]:
        raise LabError(f"{where}: the record lacks {', '.join(missing)}")
    record = Record(**values)
    if record.task not in spec.TASKS:
        raise LabError(
            f"{where}: task={record.task} is none of {', '.join(spec.TASKS)}.{nearest(record.task, spec.TASKS)}"
        )
    known = {*spec.FEATURES, *spec.MADE}
    for key in (*record.given, record.asked):
        if key not in known:
            raise LabError(f"{where}: there is no feature '{key}'.{nearest(key, known)}")
    texts_there = isinstance(record.object, dict) and all(
        isinstance(part, dict) and all(isinstance(text, str) for text in part.values())
        for part in record.object.values()
    )
    if not texts_there:
        raise LabError(
            f'{where}: object must be {{"customer": {{…}}, "seller": {{…}}, "platform": {{…}}}} of texts'
        )
    if record.labels is not None and record.output and record.output not in record.labels:
        raise LabError(f"{where}: the output {record.output!r} is not in labels")
    return record


def read(file: Path) -> Iterator[Record]:
    """The records of a file of JSON lines."""
    if not file.is_file():
        raise LabError(f"{file}: no such file; give JSON lines of records")
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                values = json.loads(line)
            except ValueError as error:
                raise LabError(f"{file}, line {number}: no JSON ({error})") from error
            if not isinstance(values, dict):
                raise LabError(f"{file}, line {number}: a record is an object")
            yield parsed(values, f"{file}, line {number}")


def write(file: Path, records: Iterable[Record]) -> None:
    """A line each."""
    file.write_text("".join(f"{record.line()}\n" for record in records), encoding="utf-8")
