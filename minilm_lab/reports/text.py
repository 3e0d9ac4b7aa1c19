"""The words and numbers of a table as plain text, shared by all renderers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from minilm_lab.reports import paired
from minilm_lab.reports.table import KEPT, SCORE, Column, Table

if TYPE_CHECKING:
    import pandas as pd

DASH = "–"
UNTUNED = "nothing was fine-tuned"
"""What a caption says of its selection where all its scores are of `evaluate`."""
UNVERIFIED = "†"
"""Stands behind a number of the paper that was not checked in the paper itself."""


def number_text(value: float, column: Column) -> str:
    """Return a number with the column's digits and suffix: ``"85.5"``, ``"2.0×"``, ``"nan"``."""
    if not math.isfinite(value):
        return str(value)
    # "z": -0.04 at one digit is 0.0, as a minus before a zero only puzzles.
    return f"{value:z.{column.decimals}f}{column.suffix}"


def cell_parts(cell: Any, column: Column, usual_n: int) -> tuple[str, str, str]:
    """Return ``("85.5", "± 0.3 (n=2)", "[84.0†]")`` of a cell (`Table.cell`): its mean, deviation, the paper's number.

    The number of values is said where it is not `usual_n`, the one that the caption states. What is not there is
    `""`, the mean a dash.
    """
    spread = "" if cell.n < 2 else f"± {cell.sd:.{column.decimals}f}"
    if column.kind == SCORE and cell.n not in (0, usual_n):
        spread = f"{spread} (n={cell.n})".strip()
    mark = UNVERIFIED if cell.paper_unverified else ""
    paper = "" if math.isnan(cell.paper) else f"[{number_text(cell.paper, column)}{mark}]"
    return number_text(cell.mean, column) + cell.marks if cell.n else DASH, spread, paper


def cell_text(cell: Any, column: Column, usual_n: int) -> str:
    """Return the `cell_parts` that are there, in one text: ``"85.5 ± 0.3 [84.0†]"``."""
    return " ".join(filter(None, cell_parts(cell, column, usual_n)))


def texts(table: Table) -> pd.DataFrame:
    """Return the texts of all cells: an index of the rows' keys, a column for each of the table's."""
    import pandas as pd

    usual = table.seed_counts()[1]
    return pd.DataFrame(
        {c.key: [cell_text(cell, c, usual) for cell in table.line(c.key)] for c in table.columns},
        index=[row.key for row in table.rows],
        dtype=object,
    )


def caption_sentences(table: Table) -> list[str]:
    """Return the caption, a sentence an item."""
    caption = table.caption
    sentences = [
        _seeds(table),
        "" if caption.selection in ("", UNTUNED) else f"Selection: {caption.selection}.",
        caption.scale and f"Scale: {caption.scale}.",
        caption.data and f"Data: {'; '.join(caption.data)}.",
        *_papers(table),
        _told_apart(table),
        _kept(table),
    ]
    if any(row.control for row in table.rows):
        sentences.append(f"Controls: {'; '.join(row.title for row in table.rows if row.control)}.")
    sentences += [f"{column.title}: {column.note}." for column in table.columns if column.note]
    sentences.append(caption.hardware and f"Hardware: {'; '.join(caption.hardware)}.")
    sentences.append(caption.commits and f"Commit: {', '.join(caption.commits)}.")
    sentences += caption.notes
    # Parts may come with their own full stop.
    return [text.replace("..", ".") if text.endswith("..") else text for text in sentences if text]


def one_line(text: str) -> str:
    """Return `text` on one line, with control characters (terminal escapes among them) made visible as ``�``."""
    words = " ".join(text.split())
    if words.isprintable():
        return words
    return "".join(char if char.isprintable() else "\ufffd" for char in words)


def shortened(text: str, most: int) -> str:
    """Return `text` on one line of at most `most` characters, cut at its end."""
    text = one_line(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def aligned(lines: list[list[str]]) -> str:
    """Return lines of equally many texts as plain text in aligned columns, never cut: for pipes and logs."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def _seeds(table: Table) -> str:
    least, most = table.seed_counts()
    if most == 0:
        only_measures = len(table.frame) and all(column.kind != SCORE for column in table.columns)
        return "" if only_measures else "Nothing measured yet."
    if most == 1 and table.caption.selection == UNTUNED:
        return "One value a cell: nothing was fine-tuned."
    if most == 1:
        return "One fine-tuning seed, so no deviation is known."
    fewer = "" if least == most else "; fewer where n is given"
    return f"Mean ± sample standard deviation over {most} fine-tuning seeds{fewer}."


def _told_apart(table: Table) -> str:
    """Which rows the seeds tell apart, where there are enough of them to claim anything."""
    compared = table.differences
    if table.headline is None or compared.empty:
        return ""
    marks = [mark for mark in paired.NAMES if mark in set(compared["mark"][compared["differs"]])]
    legend = "".join(f", {mark} = differs from {paired.NAMES[mark]}" for mark in marks)
    titles = {row.key: row.title for row in table.rows}
    words = paired.in_words(compared[compared["column"] == table.headline.key], titles)
    words = f" {table.headline.title}: {words}." if words else ""
    return f"Differences paired by seed, 95 % bootstrap intervals{legend}.{words}"


def _kept(table: Table) -> str:
    """The shares of the teacher's average with their intervals, where there are seeds enough."""
    column = next((column for column in table.columns if column.kind == KEPT), None)
    if column is None or not table.kept:
        return ""
    titles = {row.key: row.title for row in table.rows}
    shares = [
        f"{titles[row]} {s:.1f} % ({low:.1f} to {high:.1f})" for row, (s, low, high) in table.kept.items()
    ]
    return f"{column.title}, with 95 % bootstrap intervals over paired seeds: {'; '.join(shares)}."


def _papers(table: Table) -> list[str]:
    known = table.summary[table.summary["paper"].notna()]
    unverified = known["paper_unverified"].astype(bool)
    sentences = []
    if len(known):
        sentences.append(f"In brackets: the paper's number{_sources(known[~unverified])}.")
    if unverified.any():
        sentences.append(f"{UNVERIFIED} not verified in the paper{_sources(known[unverified])}.")
    return sentences


def _sources(known: pd.DataFrame) -> str:
    sources = [one_line(source) for source in known["paper_source"].unique() if source]
    return f" ({'; '.join(sources)})" if sources else ""
