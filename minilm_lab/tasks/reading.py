"""Labelled texts of one data set: its splits, checked, as examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilm_lab.data.splits import table
from minilm_lab.errors import LabError, nearest
from minilm_lab.tasks.columns import cells_of, class_numbers, same_classes, texts, values

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


@dataclass(frozen=True)
class Source:
    """A data set and the columns to read. `key` is where its settings stand, for errors: "task"."""

    path: str
    config: str | None
    #: One column of text, or the two of a pair.
    text: list[str]
    label: str
    quotes: bool = True
    key: str = "task"

    def __str__(self) -> str:
        return self.path if self.config is None else f"{self.path} ({self.config})"

    def open(self, hub: str | None, cache: Path) -> DatasetDict:
        """All splits; LabError when there is nothing to open."""
        # Imported here: it takes a second, and tasks are composed far more often than loaded.
        from minilm_lab.tasks.sources import open_data

        return open_data(self.path, self.config, hub, cache, key=self.key, quotes=self.quotes)

    def split(self, data: DatasetDict, name: str, setting: str, *, labelled: bool = True) -> Dataset:
        """The split `name` (named by `setting`); LabError where it, or a column that is needed, is not there."""
        if name not in data:
            raise LabError(
                f"{setting}={name}: {self} has no such split; it has: {', '.join(data)}.{nearest(name, data)}"
            )
        needed = [("text", column) for column in self.text] + ([("label", self.label)] if labelled else [])
        there = data[name].column_names
        for field, column in needed:
            if column not in there:
                raise LabError(
                    f"{self.key}.{field}: {self} has no column '{column}' in '{name}'; "
                    f"it has: {', '.join(there)}.{nearest(column, there)}"
                )
        if not len(data[name]):
            raise LabError(f"{setting}={name}: the split '{name}' of {self} has no examples.")
        return data[name]

    def read(
        self, data: Dataset, split: str, names: list[str] | None, bounds: list[float] | None = None
    ) -> tuple[Dataset, int]:
        """The rows of a split, and how many were dropped because nobody labelled them.

        names: the classes in the order of their numbers; None: the labels are numbers inside `bounds`.
        """
        cells = cells_of(data, self.label, f"{self.key}.label")
        where = f"{self.key}.label={self.label} in '{split}' of {self}"
        labels: Sequence[Any]
        if names is None:
            labels = values(cells, bounds, where)
        else:
            same_classes(data, self.label, names, where)
            labels = class_numbers(cells, names, where)
        rows = self.read_unlabelled(data, split).add_column("label", labels)
        labelled = [row for row, label in enumerate(labels) if label is not None]
        return rows if len(labelled) == len(rows) else rows.select(labelled), len(rows) - len(labelled)

    def read_unlabelled(self, data: Dataset, split: str) -> Dataset:
        """The texts of a split whose answers nobody knows."""
        columns = [texts(cells_of(data, column, f"{self.key}.text"), column, split) for column in self.text]
        ids = [f"{split}-{row}" for row in range(len(data))]
        return table(id=ids, text=columns[0], pair=columns[1] if len(columns) == 2 else None)
