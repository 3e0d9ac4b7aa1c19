"""Questions with contexts and answers, from SQuAD's JSON or from the columns of the hub's layout."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilm_lab.data.splits import table
from minilm_lab.errors import LabError, nearest
from minilm_lab.paths import is_there
from minilm_lab.tasks.columns import texts

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)

COLUMNS = ("question", "context", "answers")
#: The label of a question that has no answer in its context.
NO_SPAN = [-1, -1]
#: What people call the split that scores are computed on.
_ALSO = {"validation": ("validation", "dev", "valid")}


def read_split(
    path: str,
    config: str | None,
    split: str,
    key: str,
    hub: str | None,
    cache: Path,
    setting: str = "task.path",
) -> Mapping[str, Sequence[Any]]:
    """The columns id, question, context and answers of one split of `path`.

    path: a file of SQuAD's JSON, a folder with such files (``train-v2.0.json``, ``dev-v2.0.json``, or
    ``<split>.json``), or what ``sources.open_data`` opens: a hub id or a folder of parquet, JSONL … with these
    columns. key, setting: the settings that name the split and the path, for messages. Raises LabError.
    """
    file = _squad_file(path, split, hub)
    if file is not None and (found := read_squad_json(file, setting)) is not None:
        return found
    # Imported here: it takes a second, and tasks are composed far more often than loaded.
    from minilm_lab.tasks.sources import open_data

    try:
        start = setting.removesuffix("path")
        data = open_data(path, config, hub, cache, key=start if start.endswith("_") else start.rstrip("."))
    except RuntimeError as error:  # a data set that is a program: the library no longer runs those
        raise LabError(
            f"{setting}={path}: {error}. Download its files and point {setting} to their folder."
        ) from error
    if Path(path).is_file():
        (split,) = data  # a file is one split, whatever it is called
    if split not in data:
        raise LabError(
            f"task.{key}={split}: {path} has no such split; it has: {', '.join(data)}.{nearest(split, data)}"
        )
    found = data[split]
    for column in COLUMNS:
        if column not in found.column_names:
            raise LabError(
                f"{setting}={path}: there is no column '{column}' in '{split}'; question answering needs "
                f"{', '.join(COLUMNS)} (and id), and there are: {', '.join(found.column_names)}."
            )
    names = [*COLUMNS, *(["id"] if "id" in found.column_names else [])]
    return {name: found[name][:] for name in names}


def read_squad_json(file: Path, setting: str = "task.path") -> dict[str, list[Any]] | None:
    """The same columns from a file in SQuAD's format: data → paragraphs → context and qas.

    None where the file is JSON of another kind (a list of rows, or one object a line); LabError where it is
    SQuAD's and broken.
    """
    try:
        whole = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not (isinstance(whole, dict) and "data" in whole):
        return None
    try:
        rows = list(_rows(whole["data"]))
    except (KeyError, TypeError) as error:
        raise LabError(
            f"{setting}: {file} is not in SQuAD's format ({type(error).__name__}: {error})"
        ) from error
    names = ("id", *COLUMNS)
    return {name: [row[name] for row in rows] for name in names}


def _rows(articles: Any) -> Iterator[dict[str, Any]]:
    for article in articles:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                yield {
                    "id": str(question["id"]),
                    "question": question["question"],
                    "context": paragraph["context"],
                    "answers": question["answers"],
                }


def _squad_file(path: str, split: str, hub: str | None) -> Path | None:
    """The file of SQuAD's format that holds `split`, if `path` is one or a folder of such files."""
    for place in (Path(path), *([Path(hub) / path] if hub else [])):
        if not is_there(place):
            continue
        if place.is_file() and place.suffix == ".json":
            return place
        if place.is_dir():
            for name in _ALSO.get(split, (split,)):
                for file in (*sorted(place.glob(f"{name}-v*.json")), place / f"{name}.json"):
                    if file.is_file():
                        return file
    return None


def questions(
    columns: Mapping[str, Sequence[Any]],
    split: str,
    *,
    unanswerable: bool,
    misaligned: str,
    training: bool,
    setting: str = "task.path",
) -> tuple[Dataset, int]:
    """The rows of a split: text (question), pair (context), label, and gold: all right answers' texts.

    The label is the first answer's first character and the one after its last. Returned too: how many answers
    are not where the data says. Questions with such an answer are dropped from training (there is nothing right
    to learn) and kept for scores, which compare texts alone; with misaligned="fail" they are an error. An
    unanswerable question has the label [−1, −1] and no gold, and is an error unless `unanswerable`. setting: the
    one that holds the path, for messages.
    """
    if not len(columns["question"]):
        raise LabError(f"{setting}: the split '{split}' has no questions.")
    asked = texts(columns["question"], "question", split)
    contexts = texts(columns["context"], "context", split)
    answers = [_answers(cell, split, setting) for cell in columns["answers"]]
    ids = [str(i) for i in columns["id"]] if "id" in columns else [f"{split}-{n}" for n in range(len(asked))]
    if not training:
        check_ids(ids, split, setting)
    without = sum(1 for given in answers if not given)
    if without and not unanswerable:
        raise LabError(
            f"task.unanswerable=false, but {without} of {len(asked)} questions of '{split}' have no answer. "
            f"Use task.unanswerable=true (as task=squad_v2 does)."
        )
    spans = [list(given[0][1:]) if given else NO_SPAN for given in answers]
    astray = [
        n
        for n, given in enumerate(answers)
        if any(contexts[n][start:end] != text or not text for text, start, end in given)
    ]
    if astray:
        text, start, end = answers[astray[0]][0]
        said = (
            f"'{split}': {len(astray)} of {len(asked)} questions have an answer that is not in its context where "
            f"the data says, the first: {ids[astray[0]]} has {text!r}, its context {contexts[astray[0]][start:end]!r}"
        )
        if misaligned == "fail":
            raise LabError(f"task.misaligned=fail: {said}. Mend the data, or use task.misaligned=drop.")
        log.warning("%s; they are %s.", said, "dropped" if training else "kept, because scores compare texts")
    gone = set(astray) if training else set()
    kept = [n for n in range(len(asked)) if n not in gone]
    if not kept:
        raise LabError(f"{setting}: no question of '{split}' has an answer that is in its context.")
    rows = table(
        id=[ids[n] for n in kept],
        text=[asked[n].strip() for n in kept],
        pair=[contexts[n] for n in kept],
        label=[spans[n] for n in kept],
        gold=[[text for text, _, _ in answers[n]] for n in kept],
    )
    return rows, len(astray)


def check_ids(ids: Sequence[str], split: str, setting: str) -> None:
    """Raise LabError where two questions have one id: predictions are saved by id."""
    double = [i for i, count in Counter(ids).items() if count > 1]
    if double:
        raise LabError(
            f"{setting}: {len(double)} ids of '{split}' are there more than once, such as {double[0]!r}."
        )


def _answers(cell: Any, split: str, setting: str) -> list[tuple[str, int, int]]:
    """(text, first character, one after the last) of each answer; `cell` is a dict of lists or a list of dicts."""
    try:
        if isinstance(cell, Mapping):
            pairs = list(zip(cell["text"], cell["answer_start"], strict=True))
        else:
            pairs = [(answer["text"], answer["answer_start"]) for answer in cell]
        return [(str(text), int(start), int(start) + len(text)) for text, start in pairs]
    except (KeyError, TypeError, ValueError) as error:
        raise LabError(
            f"{setting}: the answers of '{split}' need text and answer_start; there is {cell!r} "
            f"({type(error).__name__}: {error})."
        ) from error
