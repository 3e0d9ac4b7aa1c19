"""Labelled texts of one data set: its splits, checked, as tables of data/splits.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minilm_lab.data.formats import Reading
from minilm_lab.data.reading import open_data, place_of
from minilm_lab.data.splits import numbered, table
from minilm_lab.errors import LabError, nearest
from minilm_lab.tasks.columns import Labels, labels, texts, values

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Source:
    """A data set and the columns to read."""

    path: str
    config: str | None
    text: list[str]
    """One column of text, or the two of a pair."""
    label: str
    reading: Reading = field(default_factory=Reading)
    """How text files are read."""
    key: str = "task"
    """The group where its settings stand, for errors."""
    prefix: str = ""
    """What stands before the names of its settings there ("dev_" where its path is that of task.dev_path)."""
    unlabelled: tuple[str, ...] = ()
    """What in the column of labels says that nobody labelled the example."""

    def __str__(self) -> str:
        return self.path if self.config is None else f"{self.path} ({self.config})"

    @property
    def setting(self) -> str:
        """The setting that names its path, for messages."""
        return f"{self.key}.{self.prefix}path"

    def is_one_split(self, hub: str | None) -> bool:
        """Whether it is one file, or one saved table: that is one split, whatever it is called."""
        place = place_of(self.path, hub)
        return place is not None and (place.is_file() or (place / "state.json").is_file())

    def open(self, hub: str | None, cache: Path) -> Mapping[str, Dataset]:
        """All splits; LabError when there is nothing to open."""
        return open_data(
            self.path,
            self.config,
            hub,
            cache,
            key=f"{self.key}.{self.prefix}" if self.prefix else self.key,
            reading=self.reading,
        )

    def split(
        self, data: Mapping[str, Dataset], name: str, setting: str, *, labelled: bool = True
    ) -> Dataset:
        """The split `name` (named by `setting`); LabError where it, or a column that is needed, is not there."""
        if name not in data:
            raise LabError(
                f"{setting}={name}: {self} has no such split; it has: {', '.join(data)}.{nearest(name, data)}"
            )
        needed = [("text", column) for column in self.text] + ([("label", self.label)] if labelled else [])
        there = data[name].column_names
        for field_name, column in needed:
            if column not in there:
                raise LabError(
                    f"{self.key}.{field_name}: {self} has no column '{column}' in '{name}'; "
                    f"it has: {', '.join(there)}.{nearest(column, there)}"
                )
        if not len(data[name]):
            raise LabError(f"{setting}={name}: the split '{name}' of {self} has no examples.")
        return data[name]

    def labels(self, data: Dataset, split: str) -> Labels:
        """The column of class labels."""
        where = f"{self.key}.label={self.label} in '{split}' of {self}"
        return labels(data, self.label, where, self.unlabelled)

    def read(
        self, data: Dataset, split: str, names: list[str] | None, bounds: list[float] | None = None
    ) -> tuple[Dataset, int]:
        """The rows of a split, and how many were dropped because nobody labelled them.

        names: the classes in the order of their numbers; None: the labels are numbers inside `bounds`.
        """
        where = f"{self.key}.label={self.label} in '{split}' of {self}"
        if names is None:
            return self._table(data, split, values(data, self.label, bounds, where)), 0
        numbers = self.labels(data, split).numbers(names)
        rows, labelled = self._table(data, split, numbers), np.flatnonzero(numbers >= 0)
        return rows if len(labelled) == len(rows) else rows.select(labelled), len(rows) - len(labelled)

    def read_unlabelled(self, data: Dataset, split: str) -> Dataset:
        """The texts of a split whose answers nobody knows."""
        return self._table(data, split, None)

    def _table(self, data: Dataset, split: str, label: np.ndarray | None) -> Dataset:
        columns = [texts(data, column, f"{self.key}.text", split) for column in self.text]
        second = columns[1] if len(columns) == 2 else None
        return table(id=numbered(split, len(data)), text=columns[0], pair=second, label=label)
