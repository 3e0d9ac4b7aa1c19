"""Where records come from: packages, a folder of records, an e-commerce hub; and what is held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from minilm_lab.data.reading import place_of
from minilm_lab.errors import LabError
from minilm_lab.studies.authoring import packages, records, shops, things
from minilm_lab.studies.authoring.records import Record, position

VERDICTS = ["yes", "no"]


@dataclass
class Gathered:
    """Records, and what is to be said of them."""

    train: list[Record]
    dev: list[Record]
    notes: list[str] = field(default_factory=list)


def gather(path: str | None, hub: str | None, cache: Path, share: float, interleave: bool) -> Gathered:
    """The records of packages (path=None), of a folder of records, or of an e-commerce hub.

    share: of the things that are held out, by a hash of their ids; a folder of records has its own split.
    """
    if path is None:
        products, categories = packages.electronics(cache)
        made = _made(products, {"category": categories, "verdict": VERDICTS}, interleave)
        clothing = packages.reviews(cache)
        made += _made(clothing, {"verdict": VERDICTS}, interleave)
        return _split(made, share)
    folder = place_of(path, hub)
    if folder is None or not folder.is_dir():
        raise LabError(f"task.path={path}: no such folder; null takes products and reviews out of packages")
    train, dev = folder / "train.jsonl", folder / "validation.jsonl"
    if train.is_file() and dev.is_file():
        return Gathered(list(records.read(train)), list(records.read(dev)))
    if shops.is_there(folder):
        products, categories, notes = shops.read(folder)
        split = _split(_made(products, {"category": categories}, interleave), share)
        split.notes += notes
        return split
    raise LabError(
        f"task.path={path}: {folder} has neither train.jsonl and validation.jsonl of records, nor abt_buy and walmart_amazon"
    )


def open_records(path: str | None, hub: str | None, cache: Path, share: float, relabel: bool) -> list[Record]:
    """Records of things that are not held out, without an answer: those that nobody wrote; with relabel all of them."""
    if path is None:
        products, categories = packages.electronics(cache)
        found = _made(products, {"category": categories, "verdict": VERDICTS}, True, unanswered=True)
        if relabel:
            found += _made(packages.reviews(cache), {"verdict": VERDICTS}, True)
        found = _split(found, share).train
    else:
        folder = place_of(path, hub)
        if folder is not None and shops.is_there(folder):
            products, categories, _ = shops.read(folder)
            found = _split(_made(products, {"category": categories}, True, unanswered=True), share).train
        else:
            found = gather(path, hub, cache, share, True).train
    return [replace(record, output="") for record in found if relabel or not record.output]


def checksum(found: Iterable[Record]) -> str:
    """Hexadecimal checksum of records."""
    digest = hashlib.blake2b(digest_size=12)
    for record in found:
        digest.update(record.line().encode())
    return digest.hexdigest()


def more(file: Path, dev: Sequence[Record]) -> Gathered:
    """The records of a file to be added to training; none of a thing that is judged (counted), none without an answer."""
    judged = {record.thing() for record in dev}
    found = list(records.read(file))
    train = [record for record in found if record.thing() not in judged and record.output]
    notes = [f"{len(train):,} more records"]
    if len(train) < len(found):
        notes.append(f"{len(found) - len(train):,} of them left out: of what is judged, or without an answer")
    return Gathered(train, [], notes)


def _made(
    found: Iterable[things.Thing],
    labels: Mapping[str, Sequence[str]],
    interleave: bool,
    unanswered: bool = False,
) -> list[Record]:
    return [record for thing in found for record in things.records_of(thing, labels, interleave, unanswered)]


def _split(found: Iterable[Record], share: float) -> Gathered:
    split = Gathered([], [])
    for record in found:
        (split.dev if position(record) < share else split.train).append(record)
    return split
