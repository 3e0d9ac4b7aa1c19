"""From the columns of a table to texts, class numbers and values; what does not fit is said, with counts."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from minilm_lab.errors import LabError

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset

log = logging.getLogger(__name__)

UNLABELLED = -1
"""The hub's mark for "nobody labelled this example", in columns whose classes are declared."""
MAX_CLASSES = 1000
"""More distinct labels than this in a column without declared classes are not classes."""
_WHOLE = re.compile(r"-?(0|[1-9]\d*)(\.0+)?")
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*", re.I)


def column(data: Dataset, name: str) -> pyarrow.ChunkedArray:
    """The cells of a column, where they lie: a file's are not read into memory."""
    return data.with_format("arrow")[:].column(name)


def texts(data: Dataset, name: str, setting: str, split: str) -> pyarrow.ChunkedArray:
    """The texts of a column; missing cells become "" and are counted, with the empty ones, in a warning.

    Raises LabError, naming `setting`, where the cells are no texts.
    """
    import pyarrow
    from pyarrow import compute

    cells = column(data, name)
    kind = cells.type.value_type if pyarrow.types.is_dictionary(cells.type) else cells.type
    if not any(
        is_kind(kind)
        for is_kind in (pyarrow.types.is_string, pyarrow.types.is_large_string, pyarrow.types.is_null)
    ):
        raise LabError(
            f"{setting}: column '{name}' of '{split}' is no text: it holds {cells.drop_null()[0].as_py()!r}."
        )
    cells = compute.fill_null(cells.cast(pyarrow.string()), "")
    empty = compute.sum(compute.equal(compute.utf8_trim_whitespace(cells), "")).as_py()
    if empty:
        log.warning(
            "%d of %d texts in column '%s' of '%s' are empty; they are kept.", empty, len(cells), name, split
        )
    return cells


@dataclass(frozen=True)
class Labels:
    """A column of class labels."""

    where: str
    """What it is, for messages."""
    values: list[Any]
    """The distinct cells: whole numbers, names, other numbers, None where nobody labelled."""
    codes: np.ndarray
    """Which of `values` each row holds, int64 (rows,)."""
    declared: list[str] | None
    """The classes that the data itself declares."""

    @property
    def counts(self) -> Counter[Any]:
        """Each value's rows; None's are those without a label."""
        rows = np.bincount(self.codes, minlength=len(self.values)).tolist()
        counts: Counter[Any] = Counter()
        for value, count in zip(self.values, rows, strict=True):
            counts[value] += count
        return counts

    def names(self, wanted: list[str] | None) -> list[str]:
        """The classes in the order of their numbers: as `wanted` (task.labels), as declared, or as found, sorted."""
        if self.declared is not None and wanted is not None and self.declared != wanted:
            raise LabError(f"task.labels={wanted} is not what the data says, in this order: {self.declared}.")
        if wanted is not None or self.declared is not None:
            return wanted or self.declared or []
        found = {*self.values} - {None}
        if any(isinstance(value, float) for value in found):
            raise LabError(
                f"{self.where} holds numbers such as {next(v for v in found if isinstance(v, float))!r}, not classes; "
                f"use task=regression, or name another column."
            )
        if not 2 <= len(found) <= MAX_CLASSES:
            raise LabError(f"{self.where} has {len(found)} distinct labels; expected 2 to {MAX_CLASSES}.")
        return [str(value) for value in sorted(found)]

    def numbers(self, names: list[str]) -> np.ndarray:
        """The class number of each row, whose cell is a class's name or its number; −1 where it is unlabelled.

        int64 (rows,). Raises LabError for labels that are no class, with their counts.
        """
        if self.declared is not None and self.declared != names:
            raise LabError(f"{self.where}: its classes are {self.declared}, in this order, and not {names}.")
        counts, by_name = self.counts, {name: number for number, name in enumerate(names)}
        missing = counts.pop(None, 0)
        if not counts:
            raise LabError(
                f"{self.where}: no example has a label (all are empty or −1). Choose a labelled split."
            )
        if missing:
            log.warning("%s: %d of %d examples have no label; dropped.", self.where, missing, len(self.codes))
        # Names win over numbers: classes named "1" to "5" are not the numbers 1 to 5.
        named = {value: by_name[str(value)] for value in counts if str(value) in by_name}
        numbered = {v: v for v in counts if isinstance(v, int) and 0 <= v < len(names)}
        # Where neither takes all, the one that takes more examples is what was meant.
        meant = max(
            (named, numbered), key=lambda known: (len(known) == len(counts), sum(counts[v] for v in known))
        )
        unknown = {value: count for value, count in counts.items() if value not in meant}
        if unknown:
            raise LabError(
                f"{self.where}: labels outside the declared classes {names}: {_listed(unknown)}. All that is there: "
                f"{_listed(counts)}. Declare the classes in task.labels, as the data writes them, or name what is no label "
                f"in task.unlabelled."
            )
        return np.asarray([UNLABELLED if v is None else meant[v] for v in self.values])[self.codes]


def labels(data: Dataset, name: str, where: str, unlabelled: Collection[str]) -> Labels:
    """Read a column of class labels.

    Missing are empty cells, what `unlabelled` names, and −1 where the data declares its classes or holds nothing else.
    Numbers are the same in whatever file they stand: 1, 1.0 and "1". Raises LabError for lists.
    """
    import pyarrow
    from datasets import ClassLabel

    cells = column(data, name)
    if pyarrow.types.is_nested(cells.type) and not pyarrow.types.is_dictionary(cells.type):
        shown = str(cells.drop_null()[0].as_py())[:80]
        raise LabError(f"{where}: a label is one name or number, not {shown}.")
    if pyarrow.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    if pyarrow.types.is_null(cells.type):
        cells = cells.cast(pyarrow.string())
    encoded = cells.combine_chunks().dictionary_encode(null_encoding="encode")
    feature = data.features[name]
    declared = list(feature.names) if isinstance(feature, ClassLabel) else None
    values = [_plain(value) for value in encoded.dictionary.to_pylist()]
    there = {value for value in values if value is not None and str(value) not in unlabelled}
    if all(isinstance(value, str) and _WHOLE.fullmatch(value) for value in there):
        values = [int(value.partition(".")[0]) if value in there else value for value in values]
    elif all(isinstance(value, str) and _NUMBER.fullmatch(value) for value in there):
        fractions = not all(float(value).is_integer() for value in there)
        values = [float(value) if fractions and value in there else value for value in values]
    values = [None if str(value) in unlabelled else value for value in values]
    if declared is not None or {*values} <= {None, UNLABELLED}:
        values = [None if value == UNLABELLED else value for value in values]
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return Labels(where, values, codes, declared)


def values(data: Dataset, name: str, bounds: list[float] | None, where: str) -> np.ndarray:
    """The numbers of a column of regression labels, all finite and inside `bounds`; float64 (rows,)."""
    cells = column(data, name).to_pylist()
    low, high = bounds or (-math.inf, math.inf)
    numbers = [_number(cell) for cell in cells]
    wrong = [
        c for c, number in zip(cells, numbers, strict=True) if number is None or not low <= number <= high
    ]
    if wrong:
        allowed = "a finite number" if bounds is None else f"a number from {low:g} to {high:g}"
        raise LabError(
            f"{where}: {len(wrong)} of {len(cells)} labels are not {allowed}, the first: {str(wrong[0])[:80]}."
        )
    return np.asarray(numbers, dtype=np.float64)


def _number(cell: object) -> float | None:
    if isinstance(cell, str) and _NUMBER.fullmatch(cell):
        cell = float(cell)
    known = isinstance(cell, int | float) and not isinstance(cell, bool) and math.isfinite(cell)
    return float(cell) if known else None  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    """A label as int, str, float or None: whole numbers are ints, however they are written."""
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return int(value) if isinstance(value, bool) else value


def _listed(counts: dict[Any, int]) -> str:
    most = Counter(counts).most_common(8)
    return ", ".join(f"{value!r} ({count} times)" for value, count in most) + (
        ", …" if len(counts) > 8 else ""
    )
