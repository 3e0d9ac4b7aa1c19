"""The splits of a task as tables of `datasets`, and what their columns mean.

| column | type                | what it is                                                                      |
|--------|---------------------|---------------------------------------------------------------------------------|
| id     | string              | a stable name of the row, for saved predictions                                 |
| text   | string              | the text; of a pair the first                                                   |
| pair   | string              | the second text, where rows are pairs (question answering: the context)         |
| label  | int, float, list, … | what the model is trained on; a split without it is one whose answers nobody knows |
| gold   | any                 | what predictions are scored against, where that is not `label`                  |
| group  | string              | such as the language: each group is scored apart, the score is the mean over them |

A task whose rows have other fields (an item's fields, negatives, dates) gives them names of their own; `id` and
what it scores against are all that the rest of the lab asks for.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset

#: Rows that are in memory at a time where a whole table is read.
AT_ONCE = 10_000


@dataclass(frozen=True)
class Splits:
    """The data of a task."""

    train: Dataset
    dev: Dataset
    """The split that scores are computed on."""
    labels: list[str] | None = None
    """Names of the classes in the order of their numbers; None where there are none."""
    data_note: str = ""
    """How this data differs from the official data ("subset: train 8,999 of 392,702"). Printed with every score."""
    extra: dict[str, Dataset] = field(default_factory=dict)
    """Further splits to predict, and to score where they are labelled: the mismatched half of MNLI, languages."""

    @property
    def judged(self) -> dict[str, Dataset]:
        """The splits that are predicted: "dev" and the names of `extra`."""
        return {"dev": self.dev, **self.extra}

    def named(self, name: str) -> Dataset:
        """The split "train", or one of `judged`."""
        return self.train if name == "train" else self.judged[name]

    def checksum(self) -> str:
        """Hexadecimal checksum of what was loaded: texts, labels, references; not of where it came from."""
        digest = hashlib.blake2b(json.dumps([self.labels, list(self.extra)]).encode(), digest_size=16)
        for split in (self.train, *self.judged.values()):
            digest.update(content(split).encode())
        return digest.hexdigest()


def table(**columns: Any) -> Dataset:
    """A split of these columns (sequences or arrow arrays), all of one length; what is None is left out.

    What lies in a file stays there.
    """
    import pyarrow
    from datasets import Dataset

    there = {name: cells for name, cells in columns.items() if cells is not None}
    whole = pyarrow.table(
        {n: c if isinstance(c, pyarrow.ChunkedArray) else pyarrow.array(c) for n, c in there.items()}
    )
    return Dataset(whole, fingerprint=secrets.token_hex(8))  # else `datasets` hashes every row


def numbered(name: str, count: int) -> pyarrow.ChunkedArray:
    """The ids of the rows of a split: "train-0", "train-1", …"""
    import pyarrow
    from pyarrow import compute

    rows = pyarrow.array(range(count), pyarrow.int64()).cast(pyarrow.string())
    return pyarrow.chunked_array([compute.binary_join_element_wise(name, rows, "-")])


def content(split: Dataset) -> str:
    """Hexadecimal checksum of the rows, without their ids: the same however the table is stored."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted({*split.column_names} - {"id"}):
        digest.update(f"{name}\n".encode())
        for cells in split.select_columns([name]).iter(AT_ONCE):
            digest.update(json.dumps(cells[name]).encode())
    return digest.hexdigest()


def texts(split: Dataset) -> Iterator[tuple[str, str | None]]:
    """(text, None) or (text, pair) of each row."""
    second = split["pair"][:] if "pair" in split.column_names else [None] * len(split)
    return zip(split["text"][:], second, strict=True)


def references(split: Dataset) -> list[Any]:
    """What predictions are scored against, one a row."""
    return list(split["gold" if "gold" in split.column_names else "label"][:])


def is_labelled(split: Dataset) -> bool:
    """Whether anybody knows the answers."""
    return "label" in split.column_names
