"""From the columns of a data set to texts, class numbers and values; what does not fit is said, with counts."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minilm_lab.errors import LabError

if TYPE_CHECKING:
    from datasets import Dataset

log = logging.getLogger(__name__)

#: The hub's mark for "nobody labelled this example".
UNLABELLED = -1
#: More distinct labels than this in a column without declared classes are not classes.
MAX_CLASSES = 1000


def cells_of(data: Dataset, column: str, where: str) -> Sequence[Any]:
    """The cells of a column; LabError where its bytes are no text."""
    try:
        found: Sequence[Any] = data[column][:]
    except UnicodeDecodeError as error:
        raise LabError(
            f"{where}: column '{column}' holds bytes that are not UTF-8 ({error.reason}); `iconv -t utf-8` converts"
        ) from error
    return found


def texts(cells: Sequence[Any], column: str, split: str) -> list[str]:
    """The texts of a column; missing cells become "" and are counted, with the empty ones, in a warning."""
    wrong = next((cell for cell in cells if cell is not None and not isinstance(cell, str)), None)
    if wrong is not None:
        raise LabError(f"task.text: column '{column}' of '{split}' is no text: it holds {wrong!r}.")
    empty = sum(1 for cell in cells if cell is None or not cell.strip())
    if empty:
        log.warning(
            "%d of %d texts in column '%s' of '%s' are empty; they are kept.",
            empty,
            len(cells),
            column,
            split,
        )
    return ["" if cell is None else cell for cell in cells]


def class_names(declared: list[str] | None, train: Dataset, column: str) -> list[str]:
    """The classes in the order of their numbers: as declared, as the features say, or as the train labels are."""
    from datasets import ClassLabel

    feature = train.features[column]
    known = list(feature.names) if isinstance(feature, ClassLabel) else None
    if known is not None and declared is not None and known != declared:
        raise LabError(f"task.labels={declared} is not what the data says, in this order: {known}.")
    if declared is not None:
        return declared
    if known is not None:
        return known
    cells = cells_of(train, column, "task.label")
    _check_scalars(cells, f"task.label: column '{column}'")
    found = {_plain(cell) for cell in cells} - {None, UNLABELLED}
    if any(isinstance(value, float) for value in found):
        raise LabError(
            f"task.label: column '{column}' holds numbers such as {next(iter(found))!r}, not classes; "
            f"use task=regression, or name another column."
        )
    if not 2 <= len(found) <= MAX_CLASSES:
        raise LabError(
            f"task.label: column '{column}' has {len(found)} distinct labels; expected 2 to {MAX_CLASSES}."
        )
    if len({type(value) for value in found}) == 1:
        return [str(value) for value in sorted(found)]
    return sorted(str(value) for value in found)


def same_classes(data: Dataset, column: str, names: list[str], where: str) -> None:
    """Raise LabError when the features of `data` number the classes otherwise than `names`: they come from one
    data set, the labels from another."""
    from datasets import ClassLabel

    feature = data.features[column]
    if isinstance(feature, ClassLabel) and list(feature.names) != names:
        raise LabError(f"{where}: its classes are {list(feature.names)}, in this order, and not {names}.")


def class_numbers(cells: Sequence[Any], names: list[str], where: str) -> list[int | None]:
    """The class number of each cell, which holds a class's name or its number; None where it is unlabelled."""
    by_name = {name: number for number, name in enumerate(names)}
    _check_scalars(cells, where)
    plain = [_plain(cell) for cell in cells]
    counts = Counter(plain)
    missing = counts.pop(None, 0) + (0 if str(UNLABELLED) in by_name else counts.pop(UNLABELLED, 0))
    if missing == len(plain):
        raise LabError(f"{where}: no example has a label (all are empty or −1). Choose a labelled split.")
    if missing:
        log.warning("%s: %d of %d examples have no label (empty or −1); dropped.", where, missing, len(plain))
    # Names win over numbers: classes named "1" to "5" are not the numbers 1 to 5.
    named = {value: by_name[str(value)] for value in counts if str(value) in by_name}
    numbered = {v: v for v in counts if isinstance(v, int) and 0 <= v < len(names)}
    # Where neither takes all, the one that takes more examples is what was meant.
    meant = max((named, numbered), key=lambda known: sum(counts[value] for value in known))
    numbers = named if len(named) == len(counts) else numbered if len(numbered) == len(counts) else meant
    unknown = {value: count for value, count in counts.items() if value not in numbers}
    if unknown:
        shown = ", ".join(f"{value!r} ({count} times)" for value, count in list(unknown.items())[:5])
        raise LabError(
            f"{where}: labels outside the declared classes {names}: {shown}. "
            f"Declare them all in task.labels, or clean the data."
        )
    return [numbers.get(value) for value in plain]


def values(cells: Sequence[Any], bounds: list[float] | None, where: str) -> list[float]:
    """The numbers of a column of regression labels, all finite and inside `bounds`."""
    low, high = bounds or (-math.inf, math.inf)
    wrong = [cell for cell in cells if not _is_number(cell) or not low <= cell <= high]
    if wrong:
        allowed = "a finite number" if bounds is None else f"a number from {low:g} to {high:g}"
        raise LabError(
            f"{where}: {len(wrong)} of {len(cells)} labels are not {allowed}, the first: {wrong[0]!r}."
        )
    return [float(cell) for cell in cells]


def _check_scalars(cells: Sequence[Any], where: str) -> None:
    wrong = next((cell for cell in cells if isinstance(cell, (list, dict))), None)
    if wrong is not None:
        raise LabError(f"{where}: a label is one name or number, not {str(wrong)[:80]}.")


def _is_number(cell: object) -> bool:
    return isinstance(cell, (int, float)) and not isinstance(cell, bool) and math.isfinite(cell)


def _plain(cell: Any) -> Any:
    """A label as int, str or None: CSV readers give floats to whole numbers where a cell is missing."""
    if isinstance(cell, float):
        return None if math.isnan(cell) else int(cell) if cell.is_integer() else cell
    return int(cell) if isinstance(cell, bool) else cell
