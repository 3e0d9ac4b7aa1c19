"""What every downstream task offers: examples, and the meaning of a model's outputs."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import MISSING

from minilm_lab.errors import LabError, nearest
from minilm_lab.tasks import metrics

KINDS = ("classification", "regression")


@dataclass(frozen=True)
class Examples:
    """One split: parallel lists, one entry an example."""

    #: The text, or a pair of texts: (text, None) or (first, second).
    texts: list[tuple[str, str | None]]
    #: What the model is trained on: class numbers (int) or values (float).
    labels: list[int] | list[float]
    #: A stable name of each example, for saved predictions.
    ids: list[str]
    #: What predictions are scored against, where that is not `labels`.
    gold: list[float] | None = None

    @property
    def references(self) -> list[int] | list[float]:
        """What predictions are scored against."""
        return self.labels if self.gold is None else self.gold

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Splits:
    """The examples of a task."""

    train: Examples
    #: The split that scores are computed on.
    dev: Examples
    #: Names of the classes in the order of their numbers; None for regression.
    labels: list[str] | None
    #: How this data differs from the official data ("subset: train 8,999 of 392,702"), or "". Printed with
    #: every score.
    data_note: str = ""

    @property
    def num_outputs(self) -> int:
        """Width of the model's head."""
        return 1 if self.labels is None else len(self.labels)

    def checksum(self) -> str:
        """Hexadecimal checksum of what was loaded: texts, labels, references; not of where it came from."""
        digest = hashlib.blake2b(digest_size=16)
        for part in _parts(self):
            digest.update(json.dumps(part, ensure_ascii=True).encode())
        return digest.hexdigest()


def _parts(splits: Splits) -> Iterator[Any]:
    yield splits.labels
    for examples in (splits.train, splits.dev):
        yield examples.texts
        yield examples.labels
        yield examples.gold


@dataclass
class Task(ABC):
    """A downstream task. Its fields say what is computed; where data lies comes as arguments."""

    #: Short name, shown in tables and folder names.
    name: str = MISSING
    #: What the model learns: "classification" (cross-entropy) or "regression" (mean squared error).
    kind: str = "classification"
    #: Longest input in tokens, special tokens included; longer ones are truncated.
    length: int = 128
    #: The metrics to compute on dev (see minilm_lab/tasks/metrics.py for their definitions).
    metrics: list[str] = field(default_factory=lambda: ["accuracy"])
    #: The metric that stands for the task in tables and chooses the best checkpoint; one of `metrics`.
    score: str = "accuracy"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise LabError(
                f"task.kind={self.kind} is unknown; there are: {', '.join(KINDS)}.{nearest(self.kind, KINDS)}"
            )
        if self.length < 8:
            raise LabError(f"task.length={self.length} is too short for a text; give 8 tokens or more.")
        for name in self.metrics:
            metrics.check(name, self.decides)
        if self.score not in self.metrics:
            raise LabError(
                f"task.score={self.score} is not among task.metrics={self.metrics}; choose one of them."
            )

    @property
    def decides(self) -> str:
        """What a prediction is: a "class" number or a "value"; it says which metrics fit."""
        return "class" if self.kind == "classification" else "value"

    @abstractmethod
    def load(self, hub: str | None, cache: Path) -> Splits:
        """Read the examples. `hub`: a local copy of hub data sets (``paths.hub``) or None; `cache`: cache folder.

        Raises LabError when the data cannot be found or does not fit the task's fields.
        """

    def fingerprint(self, hub: str | None, cache: Path) -> str:
        """Checksum of the examples' content: the same for the hub's data and for a local copy of them."""
        return self.load(hub, cache).checksum()

    def predictions(self, outputs: np.ndarray) -> np.ndarray:
        """Turn a model's outputs (examples, outputs) into predictions (examples,): class numbers or values."""
        return outputs.argmax(axis=1) if self.kind == "classification" else outputs.reshape(len(outputs))
