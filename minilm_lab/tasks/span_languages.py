"""Question answering trained in one language and scored in several: XQuAD, MLQA."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from minilm_lab.data.folders import NoSuchConfigError
from minilm_lab.data.splits import Splits
from minilm_lab.errors import LabError
from minilm_lab.tasks.qa_scores import MLQA_LANGUAGES, SQUAD
from minilm_lab.tasks.span import SpanTask

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)


@dataclass
class CrossLingualSpans(SpanTask):
    """Trained and chosen on `train` and `dev` as `SpanTask` is; the headline is the mean over the test languages.

    A language that the data lacks is named in the data note and takes no part in the mean.
    """

    normalisations: ClassVar[tuple[str, ...]] = (*SpanTask.normalisations, "mlqa")
    elsewhere: ClassVar[frozenset[str]] = SpanTask.elsewhere | {"test_path", "test_file", "test_official"}

    languages: list[str] = field(default_factory=lambda: ["en"])
    """Languages of the contexts (and so of the answers) to score."""
    question_languages: list[str] | None = None
    """Languages of the questions, each against every context language; null = the context's own."""
    test_path: str = ""
    """Hub id or folder of the test data."""
    test_config: str = "CONTEXT"
    """Its configuration for a language; CONTEXT and QUESTION stand for the languages."""
    test_file: str | None = None
    """For a folder of SQuAD's JSON in place of a hub's layout: the file for a language; null = none."""
    test_split: str = "test"
    normalisation: str = SQUAD
    """As elsewhere; or "mlqa": by language. With "squad" English articles are taken away in whatever language, and words
    are what stands between spaces, as XTREME scores XQuAD."""
    dev_language: str = "en"
    """Language of the dev split."""
    test_official: dict[str, int] = field(default_factory=dict)
    """Official numbers of test questions by context language; a score on other numbers says so."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.languages or len(set(self.languages)) != len(self.languages):
            raise LabError(f"task.languages={self.languages}: give one or more different languages.")
        if self.question_languages is not None and not self.question_languages:
            raise LabError("task.question_languages=[]: give some, or null for the context's own.")
        if self.normalisation == "mlqa":
            for language in (*self.languages, self.dev_language):
                if language not in MLQA_LANGUAGES:
                    raise LabError(
                        f"task.languages: MLQA has no rule for '{language}'; it has: "
                        f"{', '.join(MLQA_LANGUAGES)}. Use task.normalisation=squad."
                    )
        if self.unanswerable:
            raise LabError("task.unanswerable=true has no meaning in a task of several languages; use false.")
        if self.extra_splits:
            raise LabError(
                "task.extra_splits has no meaning in a task of several languages; use task.test_path."
            )
        if not self.test_path:
            raise LabError("task.test_path must be given, for example task.test_path=google/xquad.")

    def load(self, hub: str | None, cache: Path) -> Splits:
        """Read train, dev and the test languages that have data; LabError when none has."""
        splits = super().load(hub, cache)
        tests: dict[str, Dataset] = {}
        missing: list[str] = []
        notes = [splits.data_note] if splits.data_note else []
        for context, question in self._pairs():
            name = context if context == question else f"{context}-{question}"
            rows = self._test(context, question, hub, cache, notes)
            if rows is None:
                missing.append(name)
            else:
                tests[name] = rows
        if not tests:
            raise LabError(f"task.languages={self.languages}: {self.test_path} has data for none of them.")
        if missing:
            log.warning("%s has no data for %s: not scored.", self.test_path, ", ".join(missing))
            notes.append(
                f"no test data: {', '.join(missing)} ({len(missing)} of {len(missing) + len(tests)})"
            )
        return Splits(splits.train, splits.dev, None, "; ".join(notes), tests)

    def rule(self, split: str, gold: Sequence[list[str]]) -> str:
        """See `SpanTask.rule`; MLQA's by the language of the context."""
        if self.normalisation != "mlqa":
            return super().rule(split, gold)
        return self.dev_language if split == "dev" else split.partition("-")[0]

    def known_metrics(self) -> Mapping[str, str]:
        """Exact match and F1, by the rule of `normalisation`."""
        known = super().known_metrics()
        if self.normalisation != "mlqa":
            return known
        said = {name: text.partition(" (SQuAD 1.1)")[0] for name, text in known.items()}
        return {name: f"{text} by language (MLQA, evaluation v1)" for name, text in said.items()}

    def combine(self, scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """The mean over the languages, each language as `metric_language`, and dev as `metric_dev`."""
        tests = {split: part for split, part in scores.items() if split != "dev"}
        means = {name: sum(part[name] for part in tests.values()) / len(tests) for name in self.metrics}
        for split, part in {**tests, "dev": scores["dev"]}.items():
            means |= {f"{name}_{split}": float(value) for name, value in part.items()}
        return means

    def definitions(self, scores: Mapping[str, float]) -> dict[str, str]:
        """See `Task.definitions`; a score without a language is the mean over the languages."""
        definitions = super().definitions(scores)
        return definitions | {
            name: f"{definitions[name]}; unweighted mean over the languages" for name in self.metrics
        }

    def _pairs(self) -> list[tuple[str, str]]:
        if self.question_languages is None:
            return [(language, language) for language in self.languages]
        return [(context, question) for context in self.languages for question in self.question_languages]

    def _test(
        self, context: str, question: str, hub: str | None, cache: Path, notes: list[str]
    ) -> Dataset | None:
        """The test questions of a pair of languages; None where there is no data for it."""
        path, config = self.test_path, _filled(self.test_config, context, question)
        folder = Path(path).expanduser()
        if self.test_file is not None and any(folder.rglob("*.json")):
            path = str(folder / _filled(self.test_file, context, question))
            if not Path(path).is_file():
                return None
        source = replace(self._source(), path=path, config=config, prefix="test_")
        try:
            data = source.open(hub, cache)
        except NoSuchConfigError:
            return None
        split = next(iter(data)) if source.is_one_split(hub) else self.test_split
        rows, _ = self._read(
            source, source.split(data, split, "task.test_split"), split, None, context, notes
        )
        official = self.test_official.get(context)
        if context == question and official is not None and len(rows) != official:
            notes.append(f"{context} {len(rows):,} of {official:,}")
        return rows


def _filled(pattern: str, context: str, question: str) -> str:
    return pattern.replace("CONTEXT", context).replace("QUESTION", question)
