"""Questions with contexts and answers, from SQuAD's JSON or from the columns of the hub's layout."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minilm_lab.data.splits import numbered, table
from minilm_lab.errors import LabError
from minilm_lab.tasks.columns import texts
from minilm_lab.tasks.reading import Source

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)

NO_SPAN = [-1, -1]
"""The label of a question that has no answer in its context."""


def questions(
    source: Source, data: Dataset, split: str, *, unanswerable: bool, misaligned: str, training: bool
) -> tuple[Dataset, int]:
    """The rows of a split: text (question), pair (context), label, and gold: all right answers' texts.

    The label is the first answer's first character and the one after its last. Returned too: how many answers
    are not where the data says. Questions with such an answer are dropped from training (there is nothing right
    to learn) and kept for scores, which compare texts alone; with misaligned="fail" they are an error. An
    unanswerable question has the label [−1, −1] and no gold, and is an error unless `unanswerable`; so is, in training,
    an answer without a place that stands in its context more than once.
    """
    question, context = source.text
    asked = texts(data, question, f"{source.key}.text", split).to_pylist()
    contexts = texts(data, context, f"{source.key}.text", split).to_pylist()
    given = [
        [] if impossible else _answers(cell, f"{source.setting}: the answers of '{split}'")
        for cell, impossible in zip(_cells(data, source.label), _impossible(data), strict=True)
    ]
    there = "id" in data.column_names
    ids = [str(i) for i in data["id"][:]] if there else numbered(split, len(asked)).to_pylist()
    if not training:
        check_ids(ids, split, source.setting)
    without = given.count([])
    if without and not unanswerable:
        raise LabError(
            f"task.unanswerable=false, but {without} of {len(asked)} questions of '{split}' have no answer. "
            f"Use task.unanswerable=true (as task=squad_v2 does)."
        )
    places = [
        [_place(text, start, where) for text, start in answers]
        for answers, where in zip(given, contexts, strict=True)
    ]
    if training:
        _check_places(given, contexts, ids, f"{source.setting}: {{}} of {len(ids)} answers of '{split}'")
    astray = [
        n
        for n, answers in enumerate(given)
        if any(
            contexts[n][at : at + len(text)] != text for (text, _), at in zip(answers, places[n], strict=True)
        )
    ]
    if astray:
        text, at = given[astray[0]][0][0], places[astray[0]][0]
        said = (
            f"'{split}': {len(astray)} of {len(asked)} questions have an answer that is not in its context where "
            f"the data says, the first: {ids[astray[0]]} has {text!r}, its context "
            f"{contexts[astray[0]][at : at + len(text)]!r}"
        )
        if misaligned == "fail":
            raise LabError(f"task.misaligned=fail: {said}. Mend the data, or use task.misaligned=drop.")
        log.warning("%s; they are %s.", said, "dropped" if training else "kept, because scores compare texts")
    gone = set(astray) if training else set()
    rows = [n for n in range(len(asked)) if n not in gone]
    if not rows:
        raise LabError(f"{source.setting}: no question of '{split}' has an answer that is in its context.")
    whole = table(
        id=[ids[n] for n in rows],
        text=[asked[n].strip() for n in rows],
        pair=[contexts[n] for n in rows],
        label=[[places[n][0], places[n][0] + len(given[n][0][0])] if given[n] else NO_SPAN for n in rows],
        gold=[[text for text, _ in given[n]] for n in rows],
    )
    return whole, len(astray)


def check_ids(ids: Sequence[str], split: str, setting: str) -> None:
    """Raise LabError where two questions have one id: predictions are saved by id."""
    double = [i for i, count in Counter(ids).items() if count > 1]
    if double:
        raise LabError(
            f"{setting}: {len(double)} ids of '{split}' are there more than once, such as {double[0]!r}."
        )


def _cells(data: Dataset, column: str) -> list[Any]:
    """The cells of answers; where a column of their places stands beside them, with these."""
    cells: list[Any] = data[column][:]
    if "answer_start" not in data.column_names:
        return cells
    starts = data["answer_start"][:]
    return [
        {"text": cell, "answer_start": start} if isinstance(cell, str) else cell
        for cell, start in zip(cells, starts, strict=True)
    ]


def _impossible(data: Dataset) -> list[bool]:
    """Which questions the data calls unanswerable: answers that stand there are plausible and wrong ones."""
    if "is_impossible" not in data.column_names:
        return [False] * len(data)
    return [str(cell).strip().lower() in ("true", "1", "1.0", "yes") for cell in data["is_impossible"][:]]


def _answers(cell: Any, where: str) -> list[tuple[str, int | None]]:
    """(text, first character or None) of each answer that has a text, in any of the public layouts.

    That is a dictionary of lists or of one text, a list of dictionaries or of texts, one text, or one of these written as
    JSON or as Python writes it. A place below 0 is none.
    """
    value = _written(cell) if isinstance(cell, str) else cell
    try:
        if value is None:
            return []
        if isinstance(value, Mapping):
            several, starts = value["text"], value.get("answer_start")
            several = [several] if isinstance(several, str) else several or []
            starts = starts if isinstance(starts, list) else [starts] * len(several)
            pairs = list(zip(several, starts, strict=True))
        else:
            several = [value] if isinstance(value, str) else value
            pairs = [(a, None) if isinstance(a, str) else (a["text"], a.get("answer_start")) for a in several]
        filled = [(str(text), None if start in (None, "") else int(start)) for text, start in pairs if text]
        return [(text, None if start is None or start < 0 else start) for text, start in filled]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise LabError(
            f"{where} need a text each, and where it starts (answer_start); there is "
            f"{str(cell)[:200]!r} ({type(error).__name__}: {error})."
        ) from error


def _written(cell: str) -> Any:
    """What a cell of a CSV file holds: answers as JSON, or as Python or pandas writes them; else it is a text."""
    if not cell.lstrip().startswith(("{", "[")):
        return cell
    plain = re.sub(r"array\((\[.*?\])(?:,\s*dtype=\w+)?\)", r"\1", cell, flags=re.S)
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(plain)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        parts = value if isinstance(value, list) else [value]
        return value if all(isinstance(part, str | dict) for part in parts) else cell
    return cell


def _place(text: str, start: int | None, context: str) -> int:
    """Where an answer begins; 0 where it has no place and is not in its context."""
    return start if start is not None else max(0, context.find(text))


def _check_places(
    given: list[list[tuple[str, int | None]]], contexts: list[str], ids: list[str], where: str
) -> None:
    several = [
        n
        for n, answers in enumerate(given)
        if answers
        and answers[0][1] is None
        and len(re.findall(f"(?={re.escape(answers[0][0])})", contexts[n])) > 1
    ]
    if several:
        n = several[0]
        raise LabError(
            f"{where.format(len(several))} have no answer_start and stand in their context more than once, the first: "
            f"{ids[n]} has {given[n][0][0]!r}. Give answer_start, the number of the answer's first character."
        )
