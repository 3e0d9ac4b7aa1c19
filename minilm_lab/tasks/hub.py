"""Tasks on data sets of the hub, a local copy of them, or any CSV, TSV, JSONL or parquet files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from omegaconf import MISSING

from minilm_lab.data import holdout
from minilm_lab.data.formats import Reading
from minilm_lab.data.splits import Splits, is_labelled
from minilm_lab.errors import LabError, nearest
from minilm_lab.evaluation.result import Result
from minilm_lab.tasks import submission
from minilm_lab.tasks.labels import LabelTask
from minilm_lab.tasks.notes import data_note
from minilm_lab.tasks.reading import Source

if TYPE_CHECKING:
    from datasets import Dataset

    from minilm_lab.data.loading import Samples


@dataclass
class TrainFrom:
    """Another data set to train on; what is null is as the task says."""

    path: str | None = None
    """Hub id, folder or file."""
    config: str | None = None
    """Its configuration."""
    text: list[str] | None = None
    """Its text columns."""
    label: str | None = None
    """Its column of labels."""


@dataclass
class HubTask(LabelTask):
    """Classification or regression of a text or a pair of texts."""

    elsewhere: ClassVar[frozenset[str]] = LabelTask.elsewhere | {
        "dev_path",
        "train_from",
        "quotes",
        "encoding",
        "unlabelled",
    }

    path: str = MISSING
    """Hub id ("nyu-mll/glue"), a folder in the hub's layout, a folder with files named after their splits
    (train.csv and validation.csv; also .tsv, .jsonl, .parquet, compressed or not), one such file to train on, or what
    `datasets` saved."""
    config: str | None = None
    """Configuration of the data set ("sst2"), where it has several."""
    text: list[str] = field(default_factory=lambda: ["text"])
    """The text column, or the two columns of a pair."""
    label: str = "label"
    """The column of labels."""
    train_split: str = "train"
    """Names of the splits to train on and to score on."""
    dev_split: str = "validation"
    dev_path: str | None = None
    """Where the dev split lies, when not in `path`: a file, a folder or a hub id."""
    dev_fraction: float | None = None
    """Where there is no dev split: hold out this share of the training split, chosen by a hash of the text."""
    train_from: TrainFrom = field(default_factory=TrainFrom)
    """Train on another data set."""
    train_examples: int | None = None
    """Train on only this many examples (the first in the order of a hash of their text); null = on all."""
    labels: list[str] | None = None
    """Names of the classes in the order of their numbers. null: as the data says (its features, or the distinct
    labels of the training split, sorted)."""
    bounds: list[float] | None = None
    """Regression: the smallest and the largest label that can be right."""
    quotes: bool = True
    """Whether cells of CSV and TSV files may be quoted; false: a quotation mark is text."""
    encoding: str | None = None
    """Of text files, such as "latin-1" or "utf-16"; null = UTF-8."""
    unlabelled: list[str] = field(default_factory=lambda: ["-"])
    """Labels that say that nobody labelled an example, as SNLI's "-" does; such examples are dropped and counted. Empty
    cells are, and −1 is where the data declares its classes, or holds nothing else."""
    official: dict[str, int] = field(default_factory=dict)
    """Official numbers of examples, {train: …, dev: …}; a score on other numbers says so."""
    extra_splits: dict[str, str] = field(default_factory=dict)
    """More labelled splits to score, {name: split}; a name goes behind the metric's ("accuracy_mismatched")."""
    test: bool = False
    """Whether to predict the test sets too, and to write the files of `submissions` into the run's folder."""
    submissions: dict[str, str] = field(default_factory=dict)
    """File of a leaderboard -> test split ("test"), with another configuration before it ("ax/test")."""
    submission_labels: str = "numbers"
    """How these files name a class: numbers, or names."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._reading()
        self._check_labels()
        self._check_official()
        self._check_file_names()
        if "dev" in self.extra_splits:
            raise LabError("task.extra_splits: the name 'dev' is taken; choose another.")
        if self.train_examples is not None and self.train_examples < 1:
            raise LabError(f"task.train_examples={self.train_examples} must be at least 1, or null for all.")
        holdout.check_share(self.dev_fraction, self.dev_path)
        if self.submission_labels not in submission.FORMATS:
            raise LabError(
                f"task.submission_labels={self.submission_labels} must be one of: "
                f"{', '.join(submission.FORMATS)}.{nearest(self.submission_labels, submission.FORMATS)}"
            )
        if self.submission_labels == "names" and self.labels is None:
            raise LabError("task.submission_labels=names needs task.labels, the names in their order.")
        if self.test and not self.submissions:
            raise LabError("task.test=true needs task.submissions={<file>: <test split>}.")

    def _check_file_names(self) -> None:
        """Files of the run's folder are called after these: they must not lead out of it."""
        for setting, names in (("extra_splits", self.extra_splits), ("submissions", self.submissions)):
            for name in names:
                if not re.fullmatch(r"\w[\w.-]{0,99}", name):
                    raise LabError(
                        f"task.{setting}: {name!r} becomes the name of a file; use letters, digits, '.', '_' and '-'."
                    )

    def _check_official(self) -> None:
        self._official_names("train", "dev", *self.extra_splits)

    def _official_names(self, *known: str) -> None:
        for split in self.official:
            if split not in known:
                raise LabError(f"task.official: '{split}' must be one of: {', '.join(known)}.")

    def _check_labels(self) -> None:
        if len(self.text) not in (1, 2):
            raise LabError(f"task.text={self.text} must name one column, or two for a pair of texts.")
        if self.labels is not None and (self.kind == "regression" or len(set(self.labels)) < 2):
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

    def identity(self) -> dict[str, Any]:
        """See `Task.identity`; how test predictions are written matters only where they are."""
        unused = () if self.test else ("submissions", "submission_labels")
        return {name: value for name, value in super().identity().items() if name not in unused}

    def load(self, hub: str | None, cache: Path) -> Splits:
        """Read train, dev and what else is asked for; see `Task.load`."""
        source, training = self._source(), self._training_source()
        opened = training.open(hub, cache)
        train_data = training.split(opened, self.train_split, "task.train_split")
        names = self._names(train_data, training)
        notes: list[str] = []
        extra: dict[str, Dataset] = {}
        train, dropped = self._read(training, train_data, self.train_split, names, "train", notes)
        if self.dev_fraction is not None:
            train, dev = self._hold_out(train, self.dev_fraction, notes)
        else:
            dev_source, dev_data, split = self._dev(
                source, opened if source == training else None, hub, cache
            )
            if (str(dev_source), split) == (str(training), self.train_split):
                raise LabError(
                    f"task.dev_split={split} is the training split: scores on it would say nothing. Name another "
                    f"split, or hold out a share of it with task.dev_fraction=0.1."
                )
            dev, unlabelled = self._read(dev_source, dev_data[split], self.dev_split, names, "dev", notes)
            dropped += unlabelled
            for name, wanted in self.extra_splits.items():
                if wanted not in dev_data:
                    notes.append(f"not scored: {name}, {dev_source} has no split '{wanted}'")
                    continue
                part = dev_source.split(dev_data, wanted, f"task.extra_splits.{name}")
                extra[name], unlabelled = self._read(dev_source, part, wanted, names, name, notes)
                dropped += unlabelled
        if self.test:
            extra |= self._tests(source, hub, cache)
        found = {
            "train": train,
            "dev": dev,
            **{name: part for name, part in extra.items() if is_labelled(part)},
        }
        note = data_note({split: len(part) for split, part in found.items()}, self.official, dropped, notes)
        train, note = self._fewer(train, note)
        if self.kind == "regression":
            self.check_score(dev)
        return Splits(train, dev, names, note, extra)

    def judge(self, outputs: Sequence[np.ndarray], samples: Samples, splits: Splits, name: str) -> Result:
        """See `Task.judge`; a test set gives its file for the leaderboard too."""
        result = super().judge(outputs, samples, splits, name)
        if is_labelled(splits.judged[name]):
            return result
        names = self.labels if self.submission_labels == "names" else None
        lines = submission.tsv(self.predictions(np.stack(outputs)), names, self.bounds)
        return replace(result, files={f"{name}.tsv": lines})

    def _source(self) -> Source:
        return Source(
            self.path, self.config, self.text, self.label, self._reading(), unlabelled=self._marks()
        )

    def _reading(self) -> Reading:
        return Reading(self.encoding, self.quotes)

    def _marks(self) -> tuple[str, ...]:
        """What is no label; a class that is called so is one."""
        return tuple(mark for mark in self.unlabelled if mark not in (self.labels or []))

    def _training_source(self) -> Source:
        other = self.train_from
        if other.path is None:
            return self._source()
        text, label = other.text or self.text, other.label or self.label
        return replace(
            self._source(),
            path=other.path,
            config=other.config,
            text=text,
            label=label,
            key="task.train_from",
        )

    def _read(
        self, source: Source, data: Any, split: str, names: list[str] | None, part: str, notes: list[str]
    ) -> tuple[Dataset, int]:
        """The rows of a split, and how many were dropped for want of a label.

        part: "train", "dev" or another that is judged; what is to be said of it beside is added to `notes`.
        """
        return source.read(data, split, names, self.bounds)

    def _hold_out(self, train: Dataset, share: float, notes: list[str]) -> tuple[Dataset, Dataset]:
        notes.append(f"dev: {share:.0%} of train held out by hash")
        return holdout.hold_out(train, share)

    def _names(self, train: Any, training: Source) -> list[str] | None:
        """The classes; None for a regression."""
        if self.kind != "classification":
            return None
        names = training.labels(train, self.train_split).names(self.labels)
        if "f1" in self.metrics and len(names) != 2:
            raise LabError(
                f"task.metrics: 'f1' is for two classes; the data has {len(names)}. Use 'f1_macro'."
            )
        return names

    def _dev_source(self, source: Source) -> Source:
        if self.dev_path is None:
            return source
        return replace(source, path=self.dev_path, config=None, prefix="dev_")

    def _dev(self, source: Source, opened: Any, hub: str | None, cache: Path) -> tuple[Source, Any, str]:
        """Where the dev split lies, the open data (`opened` where that is what the task names), and the split's name."""
        own = self._dev_source(source)
        data = opened if opened is not None and own == source else own.open(hub, cache)
        source = own
        split = self.dev_split
        if split not in data and source.is_one_split(hub):
            if self.dev_path is None and self.train_from.path is None:
                raise LabError(
                    f"task.path={self.path} is one file, and the task needs a dev split too: give "
                    f"task.dev_path=<file>, or hold out a share of it with task.dev_fraction=0.1."
                )
            (split,) = data  # a file is one split, whatever it is called
        source.split(data, split, "task.dev_split")
        return source, data, split

    def _tests(self, source: Source, hub: str | None, cache: Path) -> dict[str, Dataset]:
        found = {}
        for file, place in self.submissions.items():
            config, _, split = place.rpartition("/")
            where = replace(source, config=config or source.config)
            data = where.split(where.open(hub, cache), split, f"task.submissions.{file}", labelled=False)
            found[file.removesuffix(".tsv")] = where.read_unlabelled(data, split)
        return found

    def _fewer(self, train: Dataset, note: str) -> tuple[Dataset, str]:
        if self.train_examples is None:
            return train, note
        few = holdout.first(train, self.train_examples, "task.train_examples")
        said = f"train: first {len(few):,} of {len(train):,} by hash"
        return few, "; ".join(part for part in (note, said) if part)
