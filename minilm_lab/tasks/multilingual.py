"""Classification in many languages: XNLI, PAWS-X, and other data with one configuration a language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

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

    languages: list[str] = field(default_factory=lambda: ["en"])
    """Languages to score; each is a configuration of the data set."""
    train_languages: list[str] | None = field(default_factory=lambda: ["en"])
    """Languages to train on; null = all of `languages` (translate-train-all)."""
    test_split: str | None = None
    """A split to score beside dev, as accuracy_test and accuracy_fr_test; null = none."""

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
        wanted = self.languages if self.train_languages is None else self.train_languages
        opened = {
            language: self._open(language, hub, cache)
            for language in dict.fromkeys([*self.languages, *wanted])
        }
        notes: list[str] = []
        official = dict(self.official)
        source = self._training_source()
        if self.train_from.path is not None:
            data = source.split(source.open(hub, cache), self.train_split, "task.train_split")
            training = {"": data}
            notes.append(f"trained on {source}")
        else:
            training = self._having(opened, wanted, "train", notes)
        names = self._names(next(iter(training.values())), source)
        assert names is not None
        splits: dict[str, Dataset] = {}
        splits["train"], dropped = _joined(training, self.train_split, source, names)
        for name, split in (("dev", self.dev_split), ("test", self.test_split)):
            if split is not None:
                found = self._having(opened, self.languages, name, notes)
                splits[name], unlabelled = _joined(found, split, self._source(), names)
                dropped += unlabelled
                if name in official:  # official numbers are those of one language
                    official[name] *= len(found)
        if "train" in official:
            official["train"] *= len(training)
        counts = {name: len(split) for name, split in splits.items()}
        train, note = self._fewer(splits.pop("train"), data_note(counts, official, dropped, notes))
        return Splits(train, splits.pop("dev"), names, note, splits)

    def definitions(self, scores: Mapping[str, float]) -> dict[str, str]:
        """See `Task.definitions`; a score without a language is the mean over the languages."""
        found = super().definitions(scores)
        for name in scores:
            if name in self.metrics or name.removesuffix("_test") in self.metrics:
                found[name] += "; unweighted mean over the languages"
        return found

    def _check_official(self) -> None:
        self._official_names("train", "dev", "test")

    def _open(self, language: str, hub: str | None, cache: Path) -> Mapping[str, Dataset] | None:
        """All splits of a language; None where the data set does not have it."""
        try:
            return replace(self._source(), config=language).open(hub, cache)
        except NoSuchConfigError:
            return None

    def _having(
        self,
        opened: Mapping[str, Mapping[str, Dataset] | None],
        wanted: Sequence[str],
        part: str,
        notes: list[str],
    ) -> dict[str, Dataset]:
        """The train, dev or test split of each language that has it; LabError where none has, and what there is."""
        split, source, found = getattr(self, f"{part}_split"), self._source(), {}
        for language in wanted:
            data = opened[language]
            if data is not None and split in data:
                found[language] = replace(source, config=language).split(data, split, f"task.{part}_split")
        missing = [language for language in wanted if language not in found]
        if not found:
            there = [f"{name}: {', '.join(data)}" for name in wanted if (data := opened[name]) is not None]
            setting = "train_languages" if part == "train" else "languages"
            advice = (
                " Train on other data with the same classes: task.train_from.path=nyu-mll/glue "
                "task.train_from.config=mnli for XNLI."
            )
            raise LabError(
                f"task.{setting}={wanted}: {self.path} has no '{split}' split in any of them "
                f"({'; '.join(there) or 'it has none of these configurations'}).{advice if part == 'train' else ''}"
            )
        if missing:
            data_of = "training" if part == "train" else part
            notes.append(
                f"no {data_of} data for {len(missing)} of {len(wanted)} languages: {', '.join(missing)}"
            )
        return found


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
