"""What every downstream task offers: its data, the module that is trained, and how that is judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from omegaconf import MISSING

from minilm_lab import config
from minilm_lab.errors import LabError, nearest

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedTokenizerBase

    from minilm_lab.data.loading import Samples
    from minilm_lab.data.splits import Splits
    from minilm_lab.evaluation.base import Evaluator
    from minilm_lab.evaluation.result import Result
    from minilm_lab.tasks.module import TaskModule


@dataclass(frozen=True)
class Backbone:
    """The model that a task starts from."""

    where: str
    """A folder or a hub id."""
    revision: str | None
    """Of the hub; None = the newest."""
    tokenizer: PreTrainedTokenizerBase
    trained: bool = False
    """Whether it was fine-tuned on such a task before: then nothing may be drawn, and LabError where it was not."""
    pooling: str = "cls"
    """cls: the library's head, on the first token; mean: a head on the mean over the tokens."""
    pairs: str = "cross"
    """cross: the two texts of a pair are read together; bi: apart, and their vectors are compared."""


@dataclass
class Task(ABC):
    """A downstream task. Its fields say what is computed; where data lies comes as arguments."""

    kinds: ClassVar[tuple[str, ...]] = ()
    """What this class can learn: values of `kind`."""
    elsewhere: ClassVar[frozenset[str]] = frozenset({"name", "path", "official"})
    """Fields that say what the task is called or where its data lies, not what is computed."""
    pinned: ClassVar[bool] = False
    """Whether the data is a function of the settings and of this code alone, as an exact version of a package is."""
    judged_each_epoch: ClassVar[bool] = True
    """Whether dev is judged after each epoch. False where that takes longer than the epoch, as generating texts
    does: then it is judged at the end, or after each epoch only to choose the best one (tune.select=best)."""

    name: str = MISSING
    """Short name, shown in tables and folder names."""
    kind: str = MISSING
    """What the model learns; one of `kinds`."""
    length: int = 128
    """Longest input in tokens, special tokens included; longer ones are truncated."""
    metrics: list[str] = field(default_factory=list)
    """The metrics to compute on dev; their definitions are in the record."""
    score: str = MISSING
    """The metric that stands for the task in tables and chooses the best checkpoint; one of `metrics`."""

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
            if name not in known:
                raise LabError(
                    f"task.metrics: '{name}' does not fit predictions that are a {self.decides}; "
                    f"there are: {', '.join(known)}.{nearest(name, known)}"
                )
        if self.score not in self.metrics:
            raise LabError(
                f"task.score={self.score} is not among task.metrics={self.metrics}; choose one of them."
            )

    def identity(self) -> dict[str, Any]:
        """The fields that say what is computed; the data itself has its own checksum."""
        return {name: value for name, value in config.plain(self).items() if name not in self.elsewhere}

    def described(self) -> list[str]:
        """What there is to say of the task without its data, a line each, for `minilm-lab inspect task=…`."""
        known = self.known_metrics()
        return [
            f"{self.name}: {self.kind}, {self.length} tokens",
            *(f"{name}: {known[name]}" for name in self.metrics),
        ]

    @property
    @abstractmethod
    def decides(self) -> str:
        """What a prediction is, in a word or two, for messages."""

    @abstractmethod
    def known_metrics(self) -> Mapping[str, str]:
        """The metrics that fit this task, each with its definition."""

    @abstractmethod
    def load(self, hub: str | None, cache: Path) -> Splits:
        """Read the data. `hub`: a local copy of hub data sets (``paths.hub``) or None; `cache`: cache folder.

        Raises LabError when the data cannot be found or does not fit the task's fields.
        """

    def backbone(self, where: str, revision: str | None, *, trained: bool = False) -> Backbone:
        """The model of a folder or a hub id to start from, with what reads texts for it."""
        from minilm_lab.models import sources

        return Backbone(where, revision, sources.load_tokenizer(where, revision, "source"), trained)

    @abstractmethod
    def module(self, backbone: Backbone, splits: Splits) -> TaskModule:
        """The backbone in float32 with what the task puts on it; new parts are drawn at random."""

    @abstractmethod
    def features(self, splits: Splits, name: str, tokenizer: PreTrainedTokenizerBase) -> Samples:
        """What batches are made of: "train", with what is learned, or a split of `splits.judged`, as it is predicted."""

    def samples(self, splits: Splits, name: str, tokenizer: PreTrainedTokenizerBase, cache: Path) -> Samples:
        """`features` through the token cache."""
        from minilm_lab.data import token_cache
        from minilm_lab.data.splits import content

        kind = f"{type(self).__module__}:{type(self).__qualname__}"
        what = [name == "train", kind, self.identity(), splits.labels, content(splits.named(name))]
        key = token_cache.key_of(tokenizer, *what)
        samples: Samples = token_cache.cached(
            cache, key, lambda: self.features(splits, name, tokenizer), self.name
        )
        return samples

    @abstractmethod
    def judge(self, outputs: Sequence[np.ndarray], samples: Samples, splits: Splits, name: str) -> Result:
        """Score the split `name` of `splits.judged`, and list its predictions.

        outputs: what the module predicts for each of `samples`, in their order.
        """

    def evaluators(
        self, splits: Splits, tokenizer: PreTrainedTokenizerBase, cache: Path, batch_size: int
    ) -> dict[str, Evaluator]:
        """What a module of this task is judged by: "dev", which may choose an epoch, and the others, which may not.

        They take a module of this task (`TaskModule`); batch_size: samples a forward pass.
        """
        from minilm_lab.tasks.judging import Judging

        return {
            name: Judging(self, splits, name, self.samples(splits, name, tokenizer, cache), batch_size)
            for name in splits.judged
        }

    def combine(self, scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """The scores of the record from those of each split: dev's own, and the others' under `metric_split`."""
        return {
            metric if split == "dev" else f"{metric}_{split}": float(value)
            for split, part in scores.items()
            for metric, value in part.items()
        }

    def definitions(self, scores: Mapping[str, float]) -> dict[str, str]:
        """The definition of each of the combined `scores`."""
        known, definitions = self.known_metrics(), {}
        for name in scores:
            metric = max((m for m in known if name == m or name.startswith(f"{m}_")), key=len)
            split = name[len(metric) + 1 :]
            definitions[name] = known[metric] + (f"; of the split {split}" if split else "")
        return definitions
