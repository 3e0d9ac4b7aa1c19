"""task=authoring: five tasks of an e-commerce author as instructions, judged each by its own metrics."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Optional

from minilm_lab.data.splits import Splits, table
from minilm_lab.errors import LabError, nearest
from minilm_lab.studies.authoring import metrics, spec
from minilm_lab.studies.authoring.records import Record, parsed, place
from minilm_lab.tasks.instructions import scores
from minilm_lab.tasks.instructions.task import InstructionTask

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from minilm_lab.tasks.base import Backbone
    from minilm_lab.tasks.instructions.features import InstructionFeatures
    from minilm_lab.tasks.instructions.module import Instructed, Written

SYSTEM = "You write for a shop. Give the answer alone."


@dataclass
class AuthoringTask(InstructionTask):
    """Records of products and reviews (docs/authoring.md) out of packages, a folder, or an e-commerce hub."""

    elsewhere: ClassVar[frozenset[str]] = InstructionTask.elsewhere | {"more_path"}

    name: str = "authoring"
    path: Optional[str] = None  # type: ignore[assignment]
    """null: electronics and clothing reviews out of packages. Else a folder with train.jsonl and validation.jsonl, of
    records; or one with abt_buy and walmart_amazon, as in ../hub/ecommerce."""
    more_path: Optional[str] = None
    """A file of more records to train on, such as what `minilm-lab expand` made."""
    tasks: list[str] = field(default_factory=lambda: list(spec.TASKS))
    """Which of the tasks."""
    held_out: list[str] = field(default_factory=list)
    """Of these, tasks that are judged and never trained on."""
    rows: Optional[int] = 240
    """Records of a task to train on: the first in the order of a hash; null = all."""
    dev_rows: Optional[int] = 120
    """Records of a task to be judged on, likewise."""
    share: float = 0.3
    """Of the products and reviews that are held out for judging, by a hash."""
    interleave: bool = True
    """false: an instruction gives one feature alone."""
    unseen: bool = False
    """Judge the same records in the held-out wording too, as a split "unseen"."""
    length: int = 288
    target_length: int = 64
    system: str = SYSTEM
    metrics: list[str] = field(default_factory=lambda: ["mean"])
    score: str = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tasks", "held_out"):
            for task in getattr(self, name):
                if task not in spec.TASKS:
                    raise LabError(
                        f"task.{name}: there is no task '{task}'; there are: {', '.join(spec.TASKS)}."
                        f"{nearest(task, spec.TASKS)}"
                    )
        if not set(self.tasks) - set(self.held_out):
            raise LabError(
                "task.tasks: nothing is left to train on; name a task that is not in task.held_out."
            )
        for name in ("rows", "dev_rows"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise LabError(f"task.{name}={getattr(self, name)} must be at least 1, or null for all.")
        if not 0 < self.share < 1:
            raise LabError(f"task.share={self.share} must be between 0 and 1.")
        spec.check_interleaved()

    def described(self) -> list[str]:
        """Which feature is given and asked in which task, and the metrics of the tasks."""
        forms = [form for form in spec.FORMS if form.task in self.tasks]
        if not self.interleave:
            forms = [spec.alone(form) for form in forms]
        return [*spec.lines(forms), "", *(f"{name}: {text}" for name, text in metrics.METRICS.items())]

    def known_metrics(self) -> Mapping[str, str]:
        """The metrics of the five tasks, and those of all instructions that need no right answer."""
        return {**metrics.METRICS, **{name: scores.METRICS[name] for name in ("answer_loss", "stops")}}

    def load(self, hub: str | None, cache: Path) -> Splits:
        """See `Task.load`."""
        from minilm_lab.studies.authoring import gathering

        data = gathering.gather(self.path, hub, cache, self.share, self.interleave)
        train, dev = self._chosen(data.train, self.rows, False), self._chosen(data.dev, self.dev_rows, True)
        notes = list(data.notes)
        if self.more_path is not None:
            more = gathering.more(Path(self.more_path).expanduser(), dev)
            train += [record for record in more.train if record.task in self.tasks]
            notes += more.notes
        if not train or not dev:
            raise LabError(
                f"task=authoring: {len(train)} records to train on and {len(dev)} to be judged on; choose other task.tasks"
            )
        unseen = {"unseen": rows_of(dev, lambda record: spec.HELD_OUT)} if self.unseen else {}
        return Splits(
            rows_of(train, Record.wording), rows_of(dev, Record.wording), None, "; ".join(notes), unseen
        )

    def module(self, backbone: Backbone, splits: Splits) -> Instructed:
        """See `Task.module`; it also tells the likeliest answer of each list."""
        from minilm_lab.tasks.instructions.chat import Chat
        from minilm_lab.tasks.instructions.module import Instructed

        chat = Chat(backbone.tokenizer, self.system)
        options = [[chat.answer(label) for label in labels] for labels in lists_of(splits)]
        return Instructed.load(
            backbone, system=self.system, target_length=self.target_length, options=options
        )

    def features(self, splits: Splits, name: str, tokenizer: PreTrainedTokenizerBase) -> InstructionFeatures:
        """See `Task.features`."""
        from minilm_lab.tasks.instructions.features import featurize

        lists, split = lists_of(splits), splits.named(name)
        options = [
            -1 if record.labels is None else lists.index(tuple(record.labels)) for record in records_in(split)
        ]
        return featurize(
            split,
            tokenizer,
            system=self.system,
            length=self.length,
            target_length=self.target_length,
            long_answers=self.long_answers,
            training=name == "train",
            options=options,
        )

    def scores(
        self, written: Sequence[Written], texts: Sequence[str], split: Dataset, tokens: Sequence[int]
    ) -> dict[str, float]:
        """All metrics of the tasks that are there."""
        records = records_in(split)
        judged = []
        for record, one, text in zip(records, written, texts, strict=True):
            likeliest = None
            if record.labels is not None and one.option >= 0:
                likeliest = record.labels[one.option]
            judged.append(judged_of(record, text, likeliest))
        answered = [n for n, record in enumerate(records) if record.output]
        loss = sum(written[n].loss for n in answered) / sum(tokens[n] for n in answered)
        stops = 100 * sum(one.ended for one in written) / len(written)
        return {**metrics.score(judged), "answer_loss": loss, "stops": stops}

    def _chosen(self, records: Sequence[Record], count: int | None, judged: bool) -> list[Record]:
        """Of each task the first `count` in the order of their places, in that order."""
        chosen: list[Record] = []
        for task in self.tasks:
            some = [r for r in records if r.task == task and (judged or r.output)]
            if task in self.held_out and not judged:
                continue
            chosen += sorted(some, key=lambda record: (place(record), record.id))[:count]
        return chosen


def judged_of(record: Record, text: str, likeliest: str | None = None) -> metrics.Judged:
    """An answer to a record, to be judged."""
    return metrics.Judged(record.task, text, record.output, record.inputs(), record.labels, likeliest)


def rows_of(records: Sequence[Record], wording: Callable[[Record], int]) -> Dataset:
    """Records as a split: instruction, input, answer, and the record itself as JSON."""
    return table(
        id=[f"{record.task}/{record.id}" for record in records],
        text=[record.instruction(wording(record)) for record in records],
        pair=[record.input() for record in records],
        label=[record.output for record in records],
        gold=[[record.output] for record in records],
        record=[record.line() for record in records],
    )


def records_in(split: Dataset) -> list[Record]:
    """The records of a split."""
    return [parsed(json.loads(line), "a split") for line in split["record"][:]]


def lists_of(splits: Splits) -> list[tuple[str, ...]]:
    """The lists that answers are chosen from, in the order in which they turn up."""
    found: dict[tuple[str, ...], None] = {}
    for split in (splits.train, *splits.judged.values()):
        for record in records_in(split):
            if record.labels is not None:
                found[tuple(record.labels)] = None
    return list(found)
