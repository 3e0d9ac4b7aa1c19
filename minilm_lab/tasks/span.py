"""Extractive question answering: SQuAD 1.1 and 2.0, and any data in their format."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from minilm_lab.data import holdout
from minilm_lab.data.splits import Splits, references
from minilm_lab.errors import LabError, nearest
from minilm_lab.evaluation.result import Result
from minilm_lab.tasks import qa_scores
from minilm_lab.tasks.base import Backbone
from minilm_lab.tasks.hub import HubTask
from minilm_lab.tasks.metrics import check_finite
from minilm_lab.tasks.qa_data import check_ids, questions
from minilm_lab.tasks.reading import Source
from minilm_lab.tasks.scripts import SPACELESS, by_characters

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from minilm_lab.data.loading import Samples
    from minilm_lab.tasks.module import TaskModule
    from minilm_lab.tasks.span_answers import Answer
    from minilm_lab.tasks.span_features import Windows

log = logging.getLogger(__name__)

#: Tokens of a window that are neither question nor context, at most (<s> … </s></s> … </s>), and the room for a
#: context that makes sense.
SPECIALS, ROOM = 4, 16

_TUNED = "; answered unless the null odds exceed a threshold TUNED ON DEV for the best F1"
_OF_ANSWERABLE, _OF_UNANSWERABLE = "; questions that have an answer", "; questions that have none"


@dataclass
class SpanTask(HubTask):
    """Answer a question with a piece of its context, or (``unanswerable``) with nothing."""

    kinds: ClassVar[tuple[str, ...]] = ("span",)
    normalisations: ClassVar[tuple[str, ...]] = (qa_scores.AUTO, qa_scores.SQUAD, qa_scores.CHARACTERS)
    """Values of `normalisation`."""

    kind: str = "span"
    length: int = 384
    metrics: list[str] = field(default_factory=lambda: ["f1", "exact_match"])
    score: str = "f1"
    text: list[str] = field(default_factory=lambda: ["question", "context"])
    """The columns of questions and of contexts."""
    label: str = "answers"
    """The column of answers, in any of the public layouts; SQuAD's JSON has these columns too."""
    dev_config: str | None = None
    """Configuration of the data of `dev_path`."""
    stride: int = 128
    """Tokens from the start of one window of a long context to the start of the next."""
    max_question: int = 64
    """Longer questions are cut, in tokens."""
    max_answer: int = 30
    """Longest answer, in tokens."""
    n_best: int = 20
    """Candidate answers of each question in nbest.json."""
    unanswerable: bool = False
    """Whether some questions have no answer (SQuAD 2.0)."""
    normalisation: str = qa_scores.AUTO
    """How answers are compared: "squad" (words, English articles), "characters" (scripts without spaces between words),
    or "auto": by the script of most right answers."""
    misaligned: str = "drop"
    """Answers that are not in their context where the data says: "drop" such questions from training, or "fail"."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("misaligned", ("drop", "fail")), ("normalisation", self.normalisations)):
            value = getattr(self, name)
            if value not in known:
                raise LabError(f"task.{name}={value}: allowed are {', '.join(known)}.{nearest(value, known)}")
        for name in ("stride", "max_question", "max_answer", "n_best"):
            if getattr(self, name) < 1:
                raise LabError(f"task.{name}={getattr(self, name)} must be 1 or more.")
        needed = self.max_question + SPECIALS + ROOM
        if self.length < needed:
            raise LabError(
                f"task.length={self.length} leaves no room for a context after a question of "
                f"task.max_question={self.max_question} tokens; give {needed} or more."
            )
        if len(self.text) != 2:
            raise LabError(
                f"task.text={self.text} must name two columns, those of questions and of contexts."
            )
        if self.test:
            raise LabError(
                "task.test=true: predictions.json is what the official scripts read; set it to false."
            )

    @property
    def decides(self) -> str:
        """A prediction is a piece of text."""
        return "span with unanswerable questions" if self.unanswerable else "span"

    def known_metrics(self) -> Mapping[str, str]:
        """Exact match and F1; with unanswerable questions also their parts, and both with the threshold at 0."""
        version = "SQuAD 2.0" if self.unanswerable else "SQuAD 1.1"
        parts, rule = {
            qa_scores.SQUAD: ("words", "for scripts with spaces between words"),
            qa_scores.CHARACTERS: ("characters", f"for {SPACELESS}"),
        }.get(self.normalisation, ("words", f"of characters where most right answers are {SPACELESS}"))
        match = f"100 x share of answers equal to a right one, normalised ({version})"
        overlap = f"100 x mean over questions of the largest F1 of {parts} with a right answer, normalised ({version}); {rule}"
        if not self.unanswerable:
            return {"exact_match": match, "f1": overlap}
        untuned = (
            "; answered where the best span scores at least as high as [CLS]: threshold 0, nothing tuned"
        )
        return {
            "exact_match": match + _TUNED,
            "f1": overlap + _TUNED,
            "has_ans_exact_match": match + _TUNED + _OF_ANSWERABLE,
            "has_ans_f1": overlap + _TUNED + _OF_ANSWERABLE,
            "no_ans_exact_match": match + _TUNED + _OF_UNANSWERABLE,
            "no_ans_f1": overlap + _TUNED + _OF_UNANSWERABLE,
            "exact_match_untuned": match + untuned,
            "f1_untuned": overlap + untuned,
        }

    def _source(self) -> Source:
        return replace(super()._source(), unlabelled=())

    def _dev_source(self, source: Source) -> Source:
        """Its configuration is its own, wherever it lies."""
        source = super()._dev_source(source)
        return source if self.dev_config is None else replace(source, config=self.dev_config)

    def _read(
        self, source: Source, data: Any, split: str, names: list[str] | None, part: str, notes: list[str]
    ) -> tuple[Dataset, int]:
        training = part == "train"
        rows, astray = questions(
            source, data, split, unanswerable=self.unanswerable, misaligned=self.misaligned, training=training
        )
        if astray and training:
            notes.append(f"{astray:,} training questions dropped: answer not in its context")
        elif astray:
            notes.append(f"{astray:,} {part} questions with an answer not in its context (kept)")
        return rows, 0

    def _hold_out(self, train: Dataset, share: float, notes: list[str]) -> tuple[Dataset, Dataset]:
        """By the context: a paragraph whose other questions were trained on is an easier one."""
        notes.append(f"dev: the questions of {share:.0%} of train's contexts, held out by hash")
        train, dev = holdout.hold_out(train, share, lambda texts: str(texts[1]))
        check_ids(dev["id"][:], self.train_split, "task.path")
        return train, dev

    def module(self, backbone: Backbone, splits: Splits) -> TaskModule:
        """See `Task.module`."""
        from minilm_lab.tasks.module import load_module

        return load_module(self.kind, backbone, 2)

    def features(self, splits: Splits, name: str, tokenizer: PreTrainedTokenizerBase) -> Windows:
        """See `Task.features`: windows of question and context."""
        from minilm_lab.tasks.span_features import windows

        sizes = {"length": self.length, "stride": self.stride, "max_question": self.max_question}
        return windows(splits.named(name), tokenizer, **sizes)

    def rule(self, split: str, gold: Sequence[list[str]]) -> str:
        """How the answers of a split are compared: "squad", "characters", or a language for MLQA's rule."""
        if self.normalisation != qa_scores.AUTO:
            return self.normalisation
        return qa_scores.CHARACTERS if by_characters(a for right in gold for a in right) else qa_scores.SQUAD

    def judge(self, outputs: Sequence[np.ndarray], samples: Samples, splits: Splits, name: str) -> Result:
        """Scores and answers of a split, with predictions.json as the official scripts read it, and nbest.json.

        With unanswerable questions also null_odds.json, which SQuAD 2.0's script takes as ``--na-prob-file``.
        Raises LabError when the outputs are not finite.
        """
        from minilm_lab.tasks import span_answers

        assert isinstance(samples, span_answers.Windows)
        check_finite(outputs, self.name)
        split = splits.judged[name]
        ids, gold = split["id"][:], references(split)
        answers = span_answers.answers(
            outputs, samples, split["pair"][:], n_best=self.n_best, max_answer=self.max_answer
        )
        rule = self.rule(name, gold)
        values = self._values(answers, gold, rule)
        facts: dict[str, Any] = {"windows": len(samples), "normalisation": rule}
        threshold = None
        if self.unanswerable:
            chosen = qa_scores.best_threshold(values["f1"], values["unanswerable"], values["null_odds"])
            threshold = chosen.value
            facts |= {
                "null_threshold": threshold,
                "null_threshold_chosen": f"for the best F1 on {name}",
                "answered": int((values["null_odds"] <= threshold).sum()),
            }
        texts = ["" if threshold is not None and a.null_odds > threshold else a.best for a in answers]
        return Result(
            scores=self._scores(values, threshold),
            rows=self._rows(answers, texts, ids, gold),
            files=self._files(answers, texts, ids, "" if name == "dev" else f"_{name}"),
            facts=facts,
        )

    def _values(
        self, answers: Sequence[Answer], gold: Sequence[list[str]], rule: str
    ) -> dict[str, np.ndarray]:
        """For each question: scores 0 to 1 of its best span, whether it is unanswerable, its null odds."""
        exact, overlap = [], []
        for answer, given in zip(answers, gold, strict=True):
            # Version 2.0: a span is no answer to an unanswerable question, and right answers have words.
            right = qa_scores.accepted(given, rule) if self.unanswerable else given
            exact.append(qa_scores.exact_match(answer.best, right, rule))
            overlap.append(qa_scores.f1(answer.best, right, rule, empty_agrees=self.unanswerable))
        return {
            "exact_match": np.asarray(exact),
            "f1": np.asarray(overlap),
            "unanswerable": np.asarray([not given for given in gold]),
            "null_odds": np.asarray([answer.null_odds for answer in answers]),
        }

    def _scores(self, values: dict[str, np.ndarray], threshold: float | None) -> dict[str, float]:
        scores: dict[str, float] = {}
        for name in self.metrics:
            metric = "f1" if name.removesuffix("_untuned").endswith("f1") else "exact_match"
            each = values[metric]
            chosen = np.ones(len(each), dtype=bool)
            if threshold is not None:
                above = values["null_odds"] > (0.0 if name.endswith("_untuned") else threshold)
                each = np.where(above, values["unanswerable"], each)
                if name.startswith("has_ans"):
                    chosen = ~values["unanswerable"]
                elif name.startswith("no_ans"):
                    chosen = values["unanswerable"]
            if chosen.any():
                scores[name] = 100.0 * float(each[chosen].mean())
            else:
                log.warning("No question fits the metric '%s' of task '%s': left out.", name, self.name)
        return scores

    def _rows(
        self, answers: Sequence[Answer], texts: Sequence[str], ids: Sequence[str], gold: Sequence[list[str]]
    ) -> list[dict[str, Any]]:
        rows = []
        for i, text, answer, right in zip(ids, texts, answers, gold, strict=True):
            row: dict[str, Any] = {"id": i, "prediction": text, "reference": right}
            if self.unanswerable:
                row |= {"best_span": answer.best, "null_odds": answer.null_odds}
            rows.append(row)
        return rows

    def _files(
        self, answers: Sequence[Answer], texts: Sequence[str], ids: Sequence[str], suffix: str
    ) -> dict[str, str]:
        best = {i: self._candidates(answer) for i, answer in zip(ids, answers, strict=True)}
        files = {"predictions": dict(zip(ids, texts, strict=True)), "nbest": best}
        if self.unanswerable:
            files["null_odds"] = {i: a.null_odds for i, a in zip(ids, answers, strict=True)}
        return {f"{name}{suffix}.json": json.dumps(content) for name, content in files.items()}

    def _candidates(self, answer: Answer) -> list[dict[str, Any]]:
        from minilm_lab.tasks.span_answers import probabilities

        entries: list[dict[str, Any]] = [
            {"text": span.text, "start": span.start, "end": span.end, "score": span.score}
            for span in answer.spans
        ]
        if self.unanswerable or not entries:
            entries.append({"text": "", "score": answer.null_score})
        entries.sort(key=lambda entry: -entry["score"])
        shares = probabilities([entry["score"] for entry in entries])
        return [{**entry, "probability": share} for entry, share in zip(entries, shares, strict=True)]
