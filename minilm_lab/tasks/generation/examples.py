"""Rows of a data set as examples of generation: sources, targets, references."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from minilm_lab.data.splits import references, table, texts
from minilm_lab.errors import LabError
from minilm_lab.tasks.reading import Source

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)


def drop_empty(source: Source, data: Any, split: str, *, fail: bool) -> tuple[Dataset, int]:
    """The examples of a split, and how many were dropped because their source or target is empty.

    A pair of sources is empty when both are. Raises LabError for cells that are no text, where nothing is left, and,
    with `fail`, where anything is empty.
    """
    columns = [_texts(data, column, f"{source.key}.text", split) for column in source.text]
    targets = _texts(data, source.label, f"{source.key}.label", split)
    second: list[Any] = columns[1] if len(columns) == 2 else [None] * len(targets)
    rows = list(zip(columns[0], second, targets, strict=True))
    filled = [
        row
        for row, (text, pair, target) in enumerate(rows)
        if (text.strip() or (pair or "").strip()) and target.strip()
    ]
    dropped = len(rows) - len(filled)
    if dropped:
        said = f"{dropped} of {len(rows)} examples in '{split}' of {source} have an empty source or target"
        if fail or not filled:
            raise LabError(f"{source.key}.empty: {said}. Mend the data, or drop them with task.empty=drop.")
        log.warning("%s; dropped.", said)
    whole = table(
        id=[f"{split}-{row}" for row in filled],
        text=[rows[row][0] for row in filled],
        pair=[rows[row][1] for row in filled] if len(columns) == 2 else None,
        label=[rows[row][2] for row in filled],
        gold=[[rows[row][2]] for row in filled],
    )
    return whole, dropped


def one_a_source(split: Dataset) -> Dataset:
    """One example a source, the first of each, with the targets of all of them as references."""
    rows: dict[tuple[str, str | None], int] = {}
    gold: dict[int, list[str]] = {}
    for row, (source, right) in enumerate(zip(texts(split), references(split), strict=True)):
        gold.setdefault(rows.setdefault(source, row), []).extend(right)
    return split.select(list(gold)).remove_columns("gold").add_column("gold", list(gold.values()))


def _texts(data: Any, column: str, setting: str, split: str) -> list[str]:
    cells = data[column][:]
    wrong = next((cell for cell in cells if cell is not None and not isinstance(cell, str)), None)
    if wrong is not None:
        raise LabError(f"{setting}: column '{column}' of '{split}' is no text: it holds {wrong!r}.")
    return ["" if cell is None else cell for cell in cells]
