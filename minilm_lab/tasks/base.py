"""What every downstream task offers: examples, and the meaning of a model's outputs."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from omegaconf import MISSING

from minilm_lab import config
from minilm_lab.errors import LabError, nearest
from minilm_lab.tasks import metrics

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from minilm_lab.tasks.features import Features
    from minilm_lab.tasks.heads import TaskHead

KINDS = ("classification", "regression")


@dataclass(frozen=True)
class Examples:
    """One split: parallel lists, one entry an example."""

    #: The text, or a pair of texts: (text, None) or (first, second).
    texts: list[tuple[str, str | None]]
    #: What the model is trained on: class numbers (int) or values (float); other kinds of task say what.
    labels: list[Any]
    #: A stable name of each example, for saved predictions.
    ids: list[str]
    #: What predictions are scored against, where that is not `labels`.
    gold: list[Any] | None = None
    #: Whether anybody knows the answers; False for a test split whose labels stand for nothing.
    labelled: bool = True
    #: The group of each example, such as its language. Each group is scored apart, and the split's score is
    #: the mean over the groups; None: one score of all.
    groups: list[str] | None = None

    @property
    def references(self) -> list[Any]:
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
    #: Further splits to predict, and to score where they are labelled: the mismatched half of MNLI, languages.
    extra: dict[str, Examples] = field(default_factory=dict)

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
    for examples in (splits.train, splits.dev, *splits.extra.values()):
        yield examples.texts
        yield examples.labels
        yield examples.gold
        if examples.groups is not None:
            yield examples.groups
    if splits.extra:
        yield list(splits.extra)


@dataclass(frozen=True)
class Outcome:
    """What a task makes of a model's outputs for one split."""

    #: Metric -> value on the papers' scale; empty where nobody knows the answers.
    scores: dict[str, float]
    #: The predictions, one a line of predictions.jsonl.
    rows: list[dict[str, Any]]
    #: Further files of the run: name -> text (a format that an official script or a leaderboard reads).
    files: dict[str, str] = field(default_factory=dict)
    #: What a reader of the record should know: a threshold, counts.
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Task(ABC):
    """A downstream task. Its fields say what is computed; where data lies comes as arguments."""

    #: What this class can learn: values of `kind`.
    kinds: ClassVar[tuple[str, ...]] = KINDS
    #: Fields that say what the task is called or where its data lies, not what is computed.
    elsewhere: ClassVar[frozenset[str]] = frozenset({"name", "path", "official"})
    #: Fields that are no part of a run's identity while they are at their default: they came later, and what was
    #: computed before them keeps its name.
    later: ClassVar[frozenset[str]] = frozenset()
    #: Whether dev is judged after each epoch. False where that takes longer than the epoch, as generating texts does:
    #: then it is judged at the end, or after each epoch only to choose the best one (tune.select=best).
    judged_each_epoch: ClassVar[bool] = True

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
        if self.kind not in self.kinds:
            raise LabError(
                f"task.kind={self.kind} is unknown; there are: {', '.join(self.kinds)}."
                f"{nearest(self.kind, self.kinds)}"
            )
        if self.length < 8:
            raise LabError(f"task.length={self.length} is too short for a text; give 8 tokens or more.")
        known = self.known_metrics()
        for name in self.metrics:
            metrics.check(name, self.decides, known)
        if self.score not in self.metrics:
            raise LabError(
                f"task.score={self.score} is not among task.metrics={self.metrics}; choose one of them."
            )

    def identity(self) -> dict[str, Any]:
        """The fields that say what is computed; the data itself has its own checksum."""
        values = config.plain(self)
        default = {f.name: _default(f) for f in fields(self)}
        off = {name for name in self.later if values[name] == config.plain(default[name])}
        return {name: value for name, value in values.items() if name not in self.elsewhere | off}

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

    # How a model is fine-tuned and judged. These serve one label a text; other kinds of task override them.

    def known_metrics(self) -> dict[str, str]:
        """The metrics that fit this task, each with its definition."""
        return metrics.fitting(self.decides)

    def head(self, splits: Splits) -> TaskHead:
        """What is put on top of a model for this task."""
        from minilm_lab.tasks.heads import head_of

        return head_of(self.kind, splits.num_outputs)

    def featurize(
        self, examples: Examples, tokenizer: PreTrainedTokenizerBase, *, training: bool
    ) -> Features:
        """Tokenise a split; `training` tells whether its labels are learned or only predicted."""
        from minilm_lab.tasks.features import featurize

        return featurize(examples, tokenizer, length=self.length)

    def judge(
        self, outputs: Sequence[np.ndarray], examples: Examples, features: Features, split: str
    ) -> Outcome:
        """Score a split ("dev" or a name of ``Splits.extra``) and list its predictions.

        outputs: what the head reads for each row of `features`, in their order, float32.
        """
        predicted = self.predictions(np.stack(outputs))
        rows = [
            {"id": i, "prediction": float(p), "reference": float(r), "outputs": o.tolist()}
            for i, p, r, o in zip(examples.ids, predicted, examples.references, outputs, strict=True)
        ]
        if examples.labelled:
            return Outcome(metrics.score_groups(self, predicted, examples.references, examples.groups), rows)
        return Outcome({}, [{k: v for k, v in row.items() if k != "reference"} for row in rows])

    def combine(self, dev: Mapping[str, float], extra: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """The scores of the record from those of the splits: dev's own, and the others' under `metric_split`."""
        named = {f"{name}_{split}": value for split, part in extra.items() for name, value in part.items()}
        return {**dev, **named}

    def definitions(self, scores: Mapping[str, float]) -> dict[str, str]:
        """The definition of each of the combined `scores`."""
        known = self.known_metrics()
        found = {}
        for name in scores:
            metric = max((m for m in known if name == m or name.startswith(f"{m}_")), key=len)
            split = name[len(metric) + 1 :]
            found[name] = known[metric] + (f"; of the split {split}" if split else "")
        return found


def _default(declared: Field[Any]) -> Any:
    factory = declared.default_factory
    return declared.default if factory is NO_DEFAULT else factory()
