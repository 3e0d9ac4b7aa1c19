"""Classification in many languages: XNLI, PAWS-X, and other data with one configuration a language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from minilm_lab.data.folders import NoSuchConfigError
from minilm_lab.data.splits import Splits
from minilm_lab.errors import LabError
from minilm_lab.tasks.hub import HubTask
from minilm_lab.tasks.notes import data_note
from minilm_lab.tasks.reading import Source

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass
class MultilingualTask(HubTask):
    """Trained in one language or several, scored in each language and on their average.

    The dev split is the dev splits of all languages together, each example in the group of its language: so an
    epoch is chosen on the joint dev set, as the papers do, and the test split is scored beside it. A language
    that the data lacks is named in the data note and takes no part in the average.
    """

    elsewhere: ClassVar[frozenset[str]] = HubTask.elsewhere

    #: Languages to score; each is a configuration of the data set.
    languages: list[str] = field(default_factory=lambda: ["en"])
    #: Languages to train on; null = all of `languages` (translate-train-all).
    train_languages: list[str] | None = field(default_factory=lambda: ["en"])
    #: A split to score beside dev, as accuracy_test and accuracy_fr_test; null = none.
    test_split: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("languages", "train_languages"):
            given = getattr(self, name)
            if given is not None and (not given or len(set(given)) != len(given)):
                raise LabError(f"task.{name}={given}: give one or more different languages.")
        for name in ("config", "dev_path", "dev_fraction"):
            if getattr(self, name) is not None:
                raise LabError(
                    f"task.{name}={getattr(self, name)} has no meaning in a task of several languages; set it to null."
                )
        if self.extra_splits or self.test:
            raise LabError(
                "task.extra_splits and task.test have no meaning in a task of several languages; use task.test_split."
            )
        if self.kind != "classification":
            raise LabError(f"task.kind={self.kind}: a task of several languages is a classification.")

    def load(self, hub: str | None, cache: Path) -> Splits:
        """Read the languages that have data; LabError when none has, or there is nothing to train on."""
        opened = _Languages(self._source(), hub, cache)
        notes: list[str] = []
        training = self._training(opened, notes, hub, cache)
        first = next(iter(training.values()))
        source = self._training_source()
        names = self._names(first, source)
        assert names is not None
        train, dropped = _joined(training, self.train_split, source, names)
        dev, unlabelled = self._scored(opened, self.dev_split, "dev", names, notes)
        dropped += unlabelled
        extra: dict[str, Dataset] = {}
        counts = {"train": len(train), "dev": len(dev)}
        official = dict(self.official)
        if self.test_split is not None:
            extra["test"], unlabelled = self._scored(opened, self.test_split, "test", names, notes)
            dropped += unlabelled
            counts["test"] = len(extra["test"])
        for name, split in {"dev": dev, **extra}.items():  # official numbers are those of one language
            if name in official:
                official[name] *= len(split.unique("group"))
        if "train" in official:
            official["train"] *= len(training)
        train, note = self._fewer(train, data_note(counts, official, dropped, notes))
        return Splits(train, dev, names, note, extra)

    def definitions(self, scores: Mapping[str, float]) -> dict[str, str]:
        """See `Task.definitions`; a score without a language is the mean over the languages."""
        found = super().definitions(scores)
        for name in scores:
            if name in self.metrics or name.removesuffix("_test") in self.metrics:
                found[name] += "; unweighted mean over the languages"
        return found

    def _check_official(self) -> None:
        self._official_names("train", "dev", "test")

    def _training(
        self, opened: _Languages, notes: list[str], hub: str | None, cache: Path
    ) -> dict[str, Dataset]:
        """The training data by language; of `train_from`, where that is given."""
        if self.train_from.path is not None:
            source = self._training_source()
            data = source.split(source.open(hub, cache), self.train_split, "task.train_split")
            notes.append(f"trained on {source}")
            return {"": data}
        wanted = self.languages if self.train_languages is None else self.train_languages
        found, missing = opened.having(self.train_split, wanted, "task.train_split")
        if not found:
            raise LabError(
                f"task.train_languages={wanted}: {self.path} has no '{self.train_split}' split in any of them "
                f"({opened.tell(wanted)}). Train on other data with the same classes: "
                f"task.train_from.path=nyu-mll/glue task.train_from.config=mnli for XNLI."
            )
        notes += _missing("no training data", missing, wanted)
        return found

    def _scored(
        self, opened: _Languages, split: str, called: str, names: list[str], notes: list[str]
    ) -> tuple[Dataset, int]:
        """The examples of all languages that have this split, and how many had no label."""
        found, missing = opened.having(split, self.languages, f"task.{called}_split")
        if not found:
            raise LabError(
                f"task.languages={self.languages}: {self.path} has no '{split}' split in any of them "
                f"({opened.tell(self.languages)})."
            )
        notes += _missing(f"no {called} data", missing, self.languages)
        return _joined(found, split, self._source(), names)


class _Languages:
    """The configurations of a data set, opened when they are asked for."""

    def __init__(self, source: Source, hub: str | None, cache: Path) -> None:
        self.source, self.hub, self.cache = source, hub, cache
        self.opened: dict[str, Mapping[str, Dataset] | None] = {}

    def data(self, language: str) -> Mapping[str, Dataset] | None:
        """All splits of a language; None where the data set does not have it."""
        if language not in self.opened:
            try:
                self.opened[language] = replace(self.source, config=language).open(self.hub, self.cache)
            except NoSuchConfigError:
                self.opened[language] = None
        return self.opened[language]

    def having(
        self, split: str, languages: Sequence[str], setting: str
    ) -> tuple[dict[str, Dataset], list[str]]:
        """The split of each language that has it, and the languages that do not."""
        found = {}
        for language in languages:
            data = self.data(language)
            if data is not None and split in data:
                source = replace(self.source, config=language)
                found[language] = source.split(data, split, setting)
        return found, [language for language in languages if language not in found]

    def tell(self, languages: Sequence[str]) -> str:
        """What there is instead."""
        there = {language: data for language in languages if (data := self.data(language)) is not None}
        if not there:
            return "it has none of these configurations"
        return "; ".join(f"{language}: {', '.join(data)}" for language, data in there.items())


def _joined(
    parts: Mapping[str, Dataset], split: str, source: Source, names: list[str]
) -> tuple[Dataset, int]:
    """All languages in one, each example in the group of its language; and how many had no label."""
    from datasets import concatenate_datasets

    rows, unlabelled = [], 0
    for language, data in parts.items():
        table, dropped = replace(source, config=language or source.config).read(data, split, names)
        unlabelled += dropped
        if language:
            ids = [f"{language}-{i}" for i in table["id"]]
            table = table.remove_columns("id").add_column("id", ids)
            table = table.add_column("group", [language] * len(table))
        rows.append(table)
    return concatenate_datasets(rows), unlabelled


def _missing(what: str, missing: Sequence[str], wanted: Sequence[Any]) -> list[str]:
    if not missing:
        return []
    return [f"{what} for {len(missing)} of {len(wanted)} languages: {', '.join(missing)}"]
