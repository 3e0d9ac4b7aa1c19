"""The files of GLUE and XNLI as they are downloaded: what their columns are called on the hub.

They are known by their exact first lines; quotation marks in them are text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Layout:
    """A kind of file of GLUE."""

    needs: frozenset[str]
    """Columns that its first line names, among others; empty: it names none, and is a row."""
    names: dict[str, str] = field(default_factory=dict)
    """Column of the file -> the name that the hub gives it, by which it is there too."""
    labels: dict[str, str] = field(default_factory=dict)
    """Label of the file -> the hub's word for it."""


_COLA = Layout(frozenset())
COLA_COLUMNS = ["source", "label", "star", "sentence"]
_LAYOUTS = (
    Layout(
        frozenset({"promptID", "pairID", "genre", "sentence1", "sentence2"}),
        {"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"},
    ),
    Layout(frozenset({"id", "qid1", "qid2", "question1", "question2"}), {"is_duplicate": "label"}),
    Layout(
        frozenset({"#1 ID", "#2 ID", "#1 String", "#2 String"}),
        {"Quality": "label", "#1 String": "sentence1", "#2 String": "sentence2"},
    ),
    Layout(frozenset({"genre", "filename", "year", "old_index", "sentence1"}), {"score": "label"}),
    Layout(
        frozenset({"premise", "hypo", "label"}),
        {"hypo": "hypothesis"},
        {"contradictory": "contradiction"},  # in the translated training sets alone
    ),
    Layout(frozenset({"index", "question", "sentence"})),
    Layout(frozenset({"index", "sentence1", "sentence2"})),
)
SPLITS = {"dev_matched": "validation_matched", "dev_mismatched": "validation_mismatched"}
"""Names of files of MNLI -> the splits on the hub."""


def layout_of(first: Sequence[str]) -> Layout | None:
    """The layout of a TSV file with this first line (its cells, as they stand); None for any other file."""
    if len(first) == len(COLA_COLUMNS) and first[1] in ("0", "1") and first[2] in ("", "*"):
        return _COLA
    return next(
        (layout for layout in _LAYOUTS if layout.needs <= {name.lstrip("\ufeff") for name in first}), None
    )
