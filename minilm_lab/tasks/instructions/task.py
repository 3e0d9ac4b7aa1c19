"""Any data of instruction, input and output: a causal model learns to answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from minilm_lab.data import holdout
from minilm_lab.data.splits import Splits, references, table
from minilm_lab.errors import LabError, nearest
from minilm_lab.evaluation.result import Result
from minilm_lab.tasks.base import Backbone
from minilm_lab.tasks.generation.examples import drop_empty
from minilm_lab.tasks.generation.scores import PACKAGES, check_packages, on_this_machine
from minilm_lab.tasks.hub import HubTask
from minilm_lab.tasks.instructions import scores
from minilm_lab.tasks.reading import Source

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from minilm_lab.data.loading import Samples
    from minilm_lab.tasks.instructions.features import InstructionFeatures
    from minilm_lab.tasks.instructions.module import Instructed, Written

log = logging.getLogger(__name__)

ROOM = 8
"""The fewest tokens of a prompt that make sense."""
SYSTEM = "You are a careful assistant. Give the answer alone."
ALLOWED = {"long_answers": ("drop", "fail"), "empty": ("drop", "fail")}


@dataclass
class InstructionTask(HubTask):
    """A column of instructions, one of inputs (of which some may be empty) and one of outputs."""

    kinds: ClassVar[tuple[str, ...]] = ("instructions",)
    judged_each_epoch: ClassVar[bool] = False

    kind: str = "instructions"
    text: list[str] = field(default_factory=lambda: ["instruction", "input"])
    """The column of instructions, and the column of inputs where there is one."""
    label: str = "output"
    """The column of answers."""
    length: int = 512
    """Tokens of prompt and answer together."""
    target_length: int = 128
    """Of these, tokens of the answer, its end included; what is generated is no longer either. Answers are never cut."""
    system: str = SYSTEM
    """The system message of every prompt, so that no template puts in one of its own."""
    long_answers: str = "drop"
    """Training rows whose answer is longer: "drop" them (counted), or "fail"."""
    empty: str = "drop"
    """Rows with an empty instruction or output: "drop" them (counted), or "fail"."""
    dev_examples: int | None = None
    """Score only this many examples of each split (the first in the order of a hash of their text); null = all."""
    metrics: list[str] = field(default_factory=lambda: ["rougeL", "exact_match", "token_f1", "answer_loss"])
    score: str = "rougeL"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target_length < 2:
            raise LabError(f"task.target_length={self.target_length} must be 2 or more.")
        if self.length - self.target_length < ROOM:
            raise LabError(
                f"task.length={self.length} is that of prompt and answer together: task.target_length={self.target_length} "
                f"leaves no room for a prompt; give {self.target_length + ROOM} or more."
            )
        for name, words in ALLOWED.items():
            value = getattr(self, name)
            if value not in words:
                raise LabError(f"task.{name}={value}: allowed are {', '.join(words)}.{nearest(value, words)}")
        if self.score == "answer_loss":
            raise LabError(
                "task.score=answer_loss: a score is larger where it is better; list it in task.metrics."
            )
        if self.dev_examples is not None and self.dev_examples < 1:
            raise LabError(f"task.dev_examples={self.dev_examples} must be at least 1, or null for all.")
        if self.test:
            raise LabError("task.test=true: there is no leaderboard's format for answers; set it to false.")

    @property
    def decides(self) -> str:
        """What a prediction is."""
        return "answer"

    def known_metrics(self) -> Mapping[str, str]:
        """The metrics of answers."""
        return scores.METRICS

    def definitions(self, values: Mapping[str, float]) -> dict[str, str]:
        """See `Task.definitions`; METEOR's says whether it knew synonyms."""
        definitions = super().definitions(values)
        return {name: text + on_this_machine(name) for name, text in definitions.items()}

    def load(self, hub: str | None, cache: Path) -> Splits:
        """See `Task.load`."""
        check_packages([name for name in self.metrics if name in PACKAGES])
        splits = super().load(hub, cache)
        if self.dev_examples is None:
            return splits
        notes = [splits.data_note] if splits.data_note else []
        scored = splits.judged
        for name, split in scored.items():
            if self.dev_examples < len(split):
                scored[name] = holdout.first(split, self.dev_examples, "task.dev_examples")
                notes.append(f"{name}: first {self.dev_examples:,} of {len(split):,} by hash")
        return replace(splits, dev=scored.pop("dev"), extra=scored, data_note="; ".join(notes))

    def module(self, backbone: Backbone, splits: Splits) -> Instructed:
        """See `Task.module`."""
        from minilm_lab.tasks.instructions.module import Instructed

        return Instructed.load(backbone, system=self.system, target_length=self.target_length)

    def features(self, splits: Splits, name: str, tokenizer: PreTrainedTokenizerBase) -> InstructionFeatures:
        """See `Task.features`; of judged splits with the right answers behind the prompts, for their loss."""
        from minilm_lab.tasks.instructions.features import featurize

        return featurize(
            splits.named(name),
            tokenizer,
            system=self.system,
            length=self.length,
            target_length=self.target_length,
            long_answers=self.long_answers,
            training=name == "train",
        )

    def samples(self, splits: Splits, name: str, tokenizer: PreTrainedTokenizerBase, cache: Path) -> Samples:
        """See `Task.samples`; the chat template decides the tokens too."""
        from minilm_lab.data import token_cache
        from minilm_lab.data.splits import content

        kind = f"{type(self).__module__}:{type(self).__qualname__}"
        what = [name == "train", kind, self.identity(), tokenizer.chat_template, tokenizer.eos_token_id]
        key = token_cache.key_of(tokenizer, *what, content(splits.named(name)))
        samples: Samples = token_cache.cached(
            cache, key, lambda: self.features(splits, name, tokenizer), self.name
        )
        return samples

    def judge(self, outputs: Sequence[np.ndarray], samples: Samples, splits: Splits, name: str) -> Result:
        """Scores and texts of a split, with answers.jsonl, one of each; outputs: `Written.array` of each example."""
        from minilm_lab.tasks.instructions.features import InstructionFeatures
        from minilm_lab.tasks.instructions.module import Written

        assert isinstance(samples, InstructionFeatures) and isinstance(samples.labels, list)
        split = splits.judged[name]
        written = [Written.of(output) for output in outputs]
        texts = [text.strip() for text in samples.decoder().decode_batch([one.tokens for one in written])]
        tokens = [int((row >= 0).sum()) for row in samples.labels]
        rows = [
            {"id": i, "prediction": text, "references": right, "ended": one.ended, "loss": one.loss / count}
            for i, text, right, one, count in zip(
                split["id"][:], texts, references(split), written, tokens, strict=True
            )
        ]
        return Result(
            scores=self.scores(written, texts, split, tokens),
            rows=rows,
            facts={
                "empty_predictions": sum(not text for text in texts),
                "cut_predictions": sum(not one.ended for one in written),
                "mean_tokens": round(float(np.mean([len(one.tokens) for one in written])), 2),
                "inputs_cut": samples.prompts_cut,
                "answers_longer": samples.answers_longer,
            },
        )

    def scores(
        self, written: Sequence[Written], texts: Sequence[str], split: Dataset, tokens: Sequence[int]
    ) -> dict[str, float]:
        """The metrics of a split; tokens: of each right answer, its end included."""
        return scores.score(self.metrics, written, texts, references(split), tokens)

    def _read(
        self, source: Source, data: Any, split: str, names: list[str] | None, part: str, notes: list[str]
    ) -> tuple[Dataset, int]:
        rows, dropped = drop_empty(source, data, split, fail=self.empty == "fail")
        if dropped:
            notes.append(f"{dropped:,} of '{split}' with an empty text dropped")
        # White space around an answer is nobody's meaning, and templates treat it differently.
        answers = [answer.strip() for answer in rows["label"][:]]
        return (
            table(
                id=rows["id"][:],
                text=[text.strip() for text in rows["text"][:]],
                pair=[text.strip() for text in rows["pair"][:]] if "pair" in rows.column_names else None,
                label=answers,
                gold=[[answer] for answer in answers],
            ),
            0,
        )
