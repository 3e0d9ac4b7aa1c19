"""Tags of words: from the columns of a data set, and scores of predicted ones."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from minilm_lab.errors import LabError

if TYPE_CHECKING:
    from datasets import Dataset

OUTSIDE = "O"
"""The tag of a word that belongs to no entity, and of a word that the model did not see."""
ENTITY_TAG = re.compile(r"O|[BIES]-.+")
"""Tags that stand for entities: beginning, inside, end, single, of a type."""

METRICS = {
    "entity_f1": "100 x micro-averaged F1 of whole entities, type and both ends right (seqeval.metrics.f1_score)",
    "entity_precision": "100 x share of the predicted entities that are right (seqeval.metrics.precision_score)",
    "entity_recall": "100 x share of the entities that are found (seqeval.metrics.recall_score)",
    "tag_accuracy": "100 x share of words whose tag is right",
}


def sequences(cells: Sequence[Any], where: str) -> list[list[Any]]:
    """The words or tags of each example: a list, or in CSV and TSV files a text with spaces between, or a list as JSON."""
    found = []
    for row, cell in enumerate(cells):
        if isinstance(cell, str):
            cell = _parts(cell, f"{where}, example {row}")
        if cell is not None and not isinstance(cell, list):
            raise LabError(
                f"{where}, example {row}: expected a list, or a text with spaces between, not {cell!r}."
            )
        found.append(cell or [])
    return found


def _parts(cell: str, where: str) -> list[Any]:
    if not cell.lstrip().startswith("["):
        return cell.split()
    if re.search(r"""['"]\s+['"]""", cell):  # Python would join these texts
        raise LabError(
            f"{where}: {cell[:80]!r} is a list without commas, as NumPy writes it. Write lists as JSON."
        )
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, list):
            return value
    return cell.split()


def tag_names(declared: list[str] | None, data: Dataset, column: str) -> list[str]:
    """The tags in the order of their numbers: as declared, as the features say, or sorted with O first."""
    known = _feature_names(data, column)
    if known is not None and declared is not None and known != declared:
        raise LabError(f"task.labels={declared} is not what the data says, in this order: {known}.")
    if declared is not None or known is not None:
        return declared or known or []
    found = {tag for row in sequences(data[column][:], f"task.label={column}") for tag in row}
    if any(not isinstance(tag, str) for tag in found) or all(str(tag).isdecimal() for tag in found):
        raise LabError(
            f"task.label={column}: the tags are numbers; give their names in their order: task.labels=[O,B-PER,…]."
        )
    if len(found) < 2:
        raise LabError(f"task.label={column}: {len(found)} distinct tags; expected 2 or more.")
    return sorted(found, key=lambda tag: (tag != OUTSIDE, tag))


def tag_numbers(data: Dataset, column: str, names: list[str], where: str) -> list[list[int]]:
    """The number of each tag, which is given as its name or its number."""
    known = _feature_names(data, column)
    if known is not None and known != names:
        raise LabError(f"{where}: its tags are {known}, in this order, and not {names}.")
    rows = sequences(data[column][:], where)
    numbers: dict[Any, int] = {name: number for number, name in enumerate(names)}
    counts = Counter(tag for row in rows for tag in row)
    given = {tag: int(tag) for tag in counts if tag not in numbers and str(tag).isdecimal()}
    numbers |= {tag: number for tag, number in given.items() if number < len(names)}
    unknown = {tag: count for tag, count in counts.items() if tag not in numbers}
    if unknown:
        shown = ", ".join(f"{tag!r} ({count} times)" for tag, count in list(unknown.items())[:5])
        raise LabError(
            f"{where}: tags outside the declared ones {names}: {shown}. Declare them in task.labels."
        )
    return [[numbers[tag] for tag in row] for row in rows]


def check_entities(names: list[str]) -> None:
    """Raise LabError unless the tags stand for entities."""
    strange = [name for name in names if not ENTITY_TAG.fullmatch(name)]
    if strange:
        raise LabError(
            f"task.metrics: entities need tags such as O, B-PER and I-PER; the data has {strange[0]!r}. "
            f"For other tags use task.metrics=[tag_accuracy] task.score=tag_accuracy."
        )


def score(wanted: Sequence[str], predicted: list[list[str]], expected: list[list[str]]) -> dict[str, float]:
    """The metrics `wanted` of predicted and expected tags, one list of tags an example."""
    from seqeval import metrics

    functions = {
        "entity_f1": metrics.f1_score,
        "entity_precision": metrics.precision_score,
        "entity_recall": metrics.recall_score,
    }
    found = {}
    for name in wanted:
        if name == "tag_accuracy":
            pairs = [
                pair for p, e in zip(predicted, expected, strict=True) for pair in zip(p, e, strict=True)
            ]
            found[name] = 100.0 * sum(p == e for p, e in pairs) / len(pairs)
        else:
            found[name] = 100.0 * float(functions[name](expected, predicted, zero_division=0))
    return found


def _feature_names(data: Dataset, column: str) -> list[str] | None:
    from datasets import ClassLabel

    inner = getattr(data.features[column], "feature", None)
    return list(inner.names) if isinstance(inner, ClassLabel) else None
