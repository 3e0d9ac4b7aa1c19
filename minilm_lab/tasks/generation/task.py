"""Generation of a text from a text: question generation, summaries, and any data with two columns of text."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from minilm_lab.data import holdout
from minilm_lab.data.splits import Splits, references
from minilm_lab.errors import LabError, nearest
from minilm_lab.evaluation.result import Result
from minilm_lab.tasks.base import Backbone
from minilm_lab.tasks.generation import scores
from minilm_lab.tasks.generation.examples import drop_empty, one_a_source
from minilm_lab.tasks.hub import HubTask
from minilm_lab.tasks.reading import Source

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from minilm_lab.data.loading import Samples
    from minilm_lab.tasks.generation.features import TextFeatures
    from minilm_lab.tasks.module import TaskModule

log = logging.getLogger(__name__)

ROOM = 8
"""The fewest tokens of a source that make sense."""


@dataclass
class GenerationTask(HubTask):
    """A column of sources (or two: passage and answer) and a column of targets."""

    kinds: ClassVar[tuple[str, ...]] = ("generation",)
    judged_each_epoch: ClassVar[bool] = False

    kind: str = "generation"
    text: list[str] = field(default_factory=lambda: ["source"])
    """The source column, or the two columns of a pair."""
    label: str = "target"
    """The column of targets."""
    length: int = 512
    """Tokens of source and target together, special tokens included."""
    target_length: int = 48
    """Of these, tokens of the target, its end token included; what is generated is no longer either."""
    label_smoothing: float = 0.1
    """Share of the wanted probability that is spread over all words in training."""
    beams: int = 5
    """Hypotheses of the beam search; 1 = greedy."""
    length_penalty: float = 1.0
    """Exponent of the length in the score of a hypothesis (GNMT); 0 = none, more = longer texts."""
    no_repeat_ngram: int = 3
    """No n-gram of this many tokens is generated twice; 0 = any may."""
    empty: str = "drop"
    """Examples with an empty source or target: "drop" them (counted), or "fail"."""
    shared_references: bool = False
    """Whether scored examples of one source are one example with several references (Du & Cardie's question
    generation)."""
    dev_examples: int | None = None
    """Score only this many examples of each split (the first in the order of a hash of their text); null = all."""
    metrics: list[str] = field(default_factory=lambda: ["rouge1", "rouge2", "rougeL"])
    score: str = "rougeL"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target_length < 2:
            raise LabError(f"task.target_length={self.target_length} must be 2 or more.")
        if self.length - self.target_length < ROOM:
            raise LabError(
                f"task.length={self.length} is that of source and target together: task.target_length="
                f"{self.target_length} leaves no room for a source; give {self.target_length + ROOM} or more."
            )
        if not 0 <= self.label_smoothing < 1:
            raise LabError(f"task.label_smoothing={self.label_smoothing} must be in [0, 1).")
        if self.beams < 1:
            raise LabError(f"task.beams={self.beams} must be 1 or more; 1 is greedy decoding.")
        for name in ("length_penalty", "no_repeat_ngram"):
            if getattr(self, name) < 0:
                raise LabError(f"task.{name}={getattr(self, name)} must be 0 or more.")
        if self.empty not in ("drop", "fail"):
            raise LabError(
                f"task.empty={self.empty}: allowed are drop, fail.{nearest(self.empty, ('drop', 'fail'))}"
            )
        if self.dev_examples is not None and self.dev_examples < 1:
            raise LabError(f"task.dev_examples={self.dev_examples} must be at least 1, or null for all.")
        if self.test:
            raise LabError(
                "task.test=true: there is no leaderboard's format for texts; set it to false. Every scored split "
                "gives hypotheses.txt, one text a line."
            )

    @property
    def decides(self) -> str:
        """What a prediction is."""
        return "text"

    def known_metrics(self) -> Mapping[str, str]:
        """The metrics of texts."""
        return scores.METRICS

    def definitions(self, values: Mapping[str, float]) -> dict[str, str]:
        """See `Task.definitions`; METEOR's says whether it knew synonyms."""
        definitions = super().definitions(values)
        return {name: text + scores.on_this_machine(name) for name, text in definitions.items()}

    def load(self, hub: str | None, cache: Path) -> Splits:
        """See `Task.load`; scored splits have one text or, with shared references, several to be compared with."""
        scores.check_packages(self.metrics)
        splits = super().load(hub, cache)
        notes = [splits.data_note] if splits.data_note else []
        scored = splits.judged
        for name, split in scored.items():
            if self.shared_references:
                scored[name] = one_a_source(split)
                notes.append(f"{name}: {len(split):,} targets of {len(scored[name]):,} sources")
            if self.dev_examples is not None and self.dev_examples < len(scored[name]):
                total = len(scored[name])
                scored[name] = holdout.first(scored[name], self.dev_examples, "task.dev_examples")
                notes.append(f"{name}: first {self.dev_examples:,} of {total:,} by hash")
        return replace(splits, dev=scored.pop("dev"), extra=scored, data_note="; ".join(notes))

    def module(self, backbone: Backbone, splits: Splits) -> TaskModule:
        """See `Task.module`."""
        from minilm_lab.tasks.generation.module import SequenceToSequence

        return SequenceToSequence.load(
            backbone,
            target_length=self.target_length,
            label_smoothing=self.label_smoothing,
            beams=self.beams,
            length_penalty=self.length_penalty,
            no_repeat=self.no_repeat_ngram,
        )

    def features(self, splits: Splits, name: str, tokenizer: PreTrainedTokenizerBase) -> TextFeatures:
        """See `Task.features`."""
        from minilm_lab.tasks.generation.features import featurize

        return featurize(
            splits.named(name),
            tokenizer,
            source_length=self.length - self.target_length,
            target_length=self.target_length,
            training=name == "train",
        )

    def judge(self, outputs: Sequence[np.ndarray], samples: Samples, splits: Splits, name: str) -> Result:
        """Scores and texts of a split, with hypotheses.txt and references.txt (the first of each), one text a line.

        outputs: int64 token ids of each example's text.
        """
        from minilm_lab.tasks.generation.features import TextFeatures

        assert isinstance(samples, TextFeatures)
        split = splits.judged[name]
        right = references(split)
        decoded = samples.decoder().decode_batch([ids.tolist() for ids in outputs])
        texts = [" ".join(text.split()) for text in decoded]
        empty = sum(not text for text in texts)
        if empty:
            log.warning("%d of %d texts generated for '%s' are empty.", empty, len(texts), name)
        suffix = "" if name == "dev" else f"_{name}"
        first = [" ".join(several[0].split()) for several in right]
        return Result(
            scores=scores.score(self.metrics, texts, right),
            rows=[
                {"id": i, "prediction": text, "references": several}
                for i, text, several in zip(split["id"][:], texts, right, strict=True)
            ],
            files={
                f"hypotheses{suffix}.txt": "".join(f"{text}\n" for text in texts),
                f"references{suffix}.txt": "".join(f"{text}\n" for text in first),
            },
            facts={
                "empty_predictions": empty,
                "mean_tokens": round(float(np.mean([len(ids) for ids in outputs])), 2),
                "sources_cut": samples.sources_cut,
            },
        )

    def _read(
        self, source: Source, data: Any, split: str, names: list[str] | None, part: str, notes: list[str]
    ) -> tuple[Dataset, int]:
        rows, dropped = drop_empty(source, data, split, fail=self.empty == "fail")
        if dropped:
            notes.append(f"{dropped:,} of '{split}' with an empty text dropped")
        return rows, 0
