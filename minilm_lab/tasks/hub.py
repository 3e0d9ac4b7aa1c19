"""Tasks on data sets of the hub, a local copy of them, or any folder of CSV, TSV, JSONL or parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

from minilm_lab.errors import LabError, nearest
from minilm_lab.tasks.base import Examples, Splits, Task
from minilm_lab.tasks.columns import class_names, class_numbers, texts, values

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


@dataclass
class HubTask(Task):
    """Classification or regression of a text or a pair of texts."""

    #: Hub id ("nyu-mll/glue"), a folder in the hub's layout, or a folder with files named after their splits
    #: (train.csv and validation.csv; also .tsv, .jsonl, .parquet).
    path: str = MISSING
    #: Configuration of the data set ("sst2"), where it has several.
    config: str | None = None
    #: The text column, or the two columns of a pair.
    text: list[str] = field(default_factory=lambda: ["text"])
    #: The column of labels.
    label: str = "label"
    #: Names of the splits to train on and to score on.
    train_split: str = "train"
    dev_split: str = "validation"
    #: Names of the classes in the order of their numbers. null: as the data says (its features, or the distinct
    #: labels of the training split, sorted).
    labels: list[str] | None = None
    #: Regression: the smallest and the largest label that can be right.
    bounds: list[float] | None = None
    #: Official numbers of examples, {train: …, dev: …}; a score on other numbers says so.
    official: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.text) not in (1, 2):
            raise LabError(f"task.text={self.text} must name one column, or two for a pair of texts.")
        if self.labels is not None and (self.kind != "classification" or len(set(self.labels)) < 2):
            raise LabError(f"task.labels={self.labels}: give two or more different class names, or null.")
        if self.labels is not None and len(set(self.labels)) != len(self.labels):
            raise LabError(f"task.labels={self.labels} names a class twice.")
        if self.bounds is not None and (
            self.kind != "regression" or len(self.bounds) != 2 or self.bounds[0] >= self.bounds[1]
        ):
            raise LabError(
                f"task.bounds={self.bounds} must be [smallest, largest] label of a regression, or null."
            )
        if "f1" in self.metrics and self.labels is not None and len(self.labels) != 2:
            raise LabError(f"task.metrics: 'f1' is for two classes, not {len(self.labels)}; use 'f1_macro'.")
        for split in self.official:
            if split not in ("train", "dev"):
                raise LabError(f"task.official: '{split}' must be 'train' or 'dev'.")

    def load(self, hub: str | None, cache: Path) -> Splits:
        """Read train and dev; see `Task.load`."""
        data = self._open(hub, cache)
        train_data = self._split(data, self.train_split, "train_split")
        dev_data = self._split(data, self.dev_split, "dev_split")
        names = None
        if self.kind == "classification":
            names = class_names(self.labels, train_data, self.label)
            if "f1" in self.metrics and len(names) != 2:
                raise LabError(
                    f"task.metrics: 'f1' is for two classes; the data has {len(names)}. Use 'f1_macro'."
                )
        train, train_dropped = self._examples(train_data, self.train_split, names)
        dev, dev_dropped = self._examples(dev_data, self.dev_split, names)
        return Splits(train, dev, names, self._note(train, dev, train_dropped + dev_dropped))

    def _open(self, hub: str | None, cache: Path) -> DatasetDict:
        # Imported here: it takes a second, and tasks are composed far more often than loaded.
        from minilm_lab.tasks.sources import open_data

        return open_data(self.path, self.config, hub, cache)

    def _split(self, data: DatasetDict, split: str, key: str) -> Dataset:
        if split not in data:
            raise LabError(
                f"task.{key}={split}: {self._where()} has no such split; it has: {', '.join(data)}."
                f"{nearest(split, data)}"
            )
        for field_, columns in (("text", self.text), ("label", [self.label])):
            for column in columns:
                if column not in data[split].column_names:
                    there = data[split].column_names
                    raise LabError(
                        f"task.{field_}: {self._where()} has no column '{column}' in '{split}'; "
                        f"it has: {', '.join(there)}.{nearest(column, there)}"
                    )
        if not len(data[split]):
            raise LabError(f"task.{key}={split}: the split '{split}' of {self._where()} has no examples.")
        return data[split]

    def _examples(self, data: Dataset, split: str, names: list[str] | None) -> tuple[Examples, int]:
        """The examples of one split, and how many were dropped because nobody labelled them."""
        cells: Sequence[Any] = data[self.label][:]
        where = f"task.label={self.label} in '{split}' of {self._where()}"
        labels: Sequence[Any]
        labels = values(cells, self.bounds, where) if names is None else class_numbers(cells, names, where)
        columns = [texts(data[column][:], column, split) for column in self.text]
        second = columns[1] if len(columns) == 2 else [None] * len(data)
        kept = [row for row, label in enumerate(labels) if label is not None]
        kept_labels: list[Any] = [labels[row] for row in kept]
        kept_texts = [(columns[0][row], second[row]) for row in kept]
        ids = [f"{split}-{row}" for row in kept]
        return Examples(kept_texts, kept_labels, ids), len(labels) - len(kept)

    def _note(self, train: Examples, dev: Examples, dropped: int) -> str:
        counts = {"train": len(train), "dev": len(dev)}
        different = {split: n for split, n in self.official.items() if counts[split] != n}
        fewer = all(counts[split] < n for split, n in different.items())
        word = "subset" if fewer else "not the official data"
        listed = ", ".join(f"{split} {counts[split]:,} of {n:,}" for split, n in different.items())
        notes = [f"{word}: {listed}"] if different else []
        notes += [f"{dropped:,} examples without a label dropped"] if dropped else []
        return "; ".join(notes)

    def _where(self) -> str:
        return self.path if self.config is None else f"{self.path} ({self.config})"
