"""An author at work: features of products in, texts out, in batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilm_lab.errors import LabError, nearest
from minilm_lab.models.decoding import Decoding
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.studies.authoring import spec
from minilm_lab.studies.authoring.metrics import grounding
from minilm_lab.studies.authoring.records import Record
from minilm_lab.tasks.instructions.chat import Chat, Longer


@dataclass(frozen=True)
class Text:
    """What an author wrote."""

    answer: str
    ended: bool
    """Whether the author ended it; false: cut at the greatest length."""
    likeliest: str | None
    """Of the labels, where there are any."""
    grounding: float
    """Share, 0 to 1, of its numbers and names that stand in what was given."""
    cut: bool
    """Whether what was given was shortened."""


class Author:
    """A causal model that was tuned on task=authoring (or any other)."""

    def __init__(self, model: LanguageModel, system: str, *, length: int, target_length: int) -> None:
        """length: tokens of prompt and answer together; target_length: of these, of the answer."""
        self.model, self.chat = model, Chat(model.tokenizer, system)
        model.ends = model.ends | {self.chat.end}
        self.room, self.target_length = length - target_length, target_length

    def write(self, records: Sequence[Record], wording: int = 0) -> list[Text]:
        """An answer to each record; LabError for a prompt that does not fit even without what may be cut."""
        prompts = []
        for record in records:
            try:
                prompts.append(self.chat.fitted(record.instruction(wording), record.input(), self.room))
            except Longer as error:
                raise LabError(f"{record.id}: {error}; give a larger length") from error
        ids = [prompt.ids for prompt in prompts]
        answers = self.model.generate(ids, Decoding(length=self.target_length))
        likeliest: list[str | None] = [None] * len(records)
        for row, record in enumerate(records):
            if record.labels:
                worth = self.model.likelihoods(
                    [ids[row]], [self.chat.answer(label) for label in record.labels]
                )
                likeliest[row] = record.labels[int(worth[0].argmax())]
        return [
            Text(text, answer.ended, best, grounding(text, record.inputs()), prompt.cut)
            for answer, text, best, record, prompt in zip(
                answers,
                [self.model.text(answer.tokens).strip() for answer in answers],
                likeliest,
                records,
                prompts,
                strict=True,
            )
        ]


def record_of(
    task: str,
    features: Mapping[str, str],
    name: str = "given",
    asked: str | None = None,
    labels: Sequence[str] | None = None,
) -> Record:
    """What a task asks of these features: the form of the task that takes most of them.

    labels: the answers to choose of; intent has its own. LabError for features that no form of the task takes (all of
    which are named), and where labels are missing.
    """
    if task not in spec.TASKS:
        raise LabError(f"task={task}: there are {', '.join(spec.TASKS)}.{nearest(task, spec.TASKS)}")
    for key in features:
        if key not in spec.FEATURES:
            raise LabError(
                f"{name}: there is no feature '{key}'.{nearest(key, spec.FEATURES)} There are: {', '.join(spec.FEATURES)}"
            )
    forms = [form for form in spec.FORMS if form.task == task and asked in (None, form.asked)]
    if not forms:
        known = list(dict.fromkeys(form.asked for form in spec.FORMS if form.task == task))
        raise LabError(f"asked={asked}: {task} asks for {', '.join(known)}")
    form = max(forms, key=lambda form: sum(key in features for key in form.given))
    given = [key for key in features if key != form.asked or task == "qa"]
    # A title that is to be rewritten is given and asked.
    if task == "rewriting" and "title" in features:
        given = ["title", *given]
    if not given:
        raise LabError(f"{name}: task={task} needs some of: {', '.join(form.given)}")
    if form.asked == "verdict":
        labels = labels or ["yes", "no"]
    elif form.asked == "category" and not labels:
        raise LabError("labels must be given for task=classification: labels='[Lamps,Sofas]'")
    objects: dict[str, dict[str, str]] = {"customer": {}, "seller": {}, "platform": {}}
    for key in given:
        objects[spec.FEATURES[key].whose][key] = features[key]
    chosen = None if not labels else list(labels)
    return Record(task, name, objects, given, form.asked, "", chosen, "given", "", "nobody")


def rows_in(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(name, features) of each line of a file of JSON objects; "id" names a row, what is null is left out."""
    if not file.is_file():
        raise LabError(f'input={file}: no such file; give JSON lines of features, such as {{"title": "…"}}')
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            where = f"{file}, line {number}"
            try:
                row: Any = json.loads(line)
            except ValueError as error:
                raise LabError(f"{where}: no JSON ({error})") from error
            if not isinstance(row, dict):
                raise LabError(f"{where}: a row is an object of features")
            name = str(row.pop("id", where))
            yield name, {str(key): str(text) for key, text in row.items() if text is not None}
