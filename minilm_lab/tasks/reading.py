"""Labelled texts of one data set: its splits, checked, as examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilm_lab.errors import LabError, nearest
from minilm_lab.tasks.base import Examples
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
    ) -> tuple[Examples, int]:
        """The examples of a split, and how many were dropped because nobody labelled them.

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
        pairs = self._texts(data, split)
        kept = [row for row, label in enumerate(labels) if label is not None]
        examples = Examples(
            [pairs[row] for row in kept], [labels[row] for row in kept], [f"{split}-{row}" for row in kept]
        )
        return examples, len(labels) - len(kept)

    def read_unlabelled(self, data: Dataset, split: str, fill: int | float) -> Examples:
        """The texts of a split whose answers nobody knows; `fill` stands in the place of a label."""
        pairs = self._texts(data, split)
        ids = [f"{split}-{row}" for row in range(len(pairs))]
        return Examples(pairs, [fill] * len(pairs), ids, labelled=False)

    def _texts(self, data: Dataset, split: str) -> list[tuple[str, str | None]]:
        cells = [cells_of(data, column, f"{self.key}.text") for column in self.text]
        columns = [texts(one, column, split) for one, column in zip(cells, self.text, strict=True)]
        second: Sequence[str | None] = columns[1] if len(columns) == 2 else [None] * len(data)
        return list(zip(columns[0], second, strict=True))
