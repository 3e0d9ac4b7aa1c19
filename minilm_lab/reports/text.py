"""The words and numbers of a table as plain text, shared by all renderers."""

from __future__ import annotations

import math

from minilm_lab.reports.table import SCORE, Cell, Column, Table

DASH = "–"
#: Behind a number of the paper that was not checked in the paper itself.
UNVERIFIED = "†"


def number_text(value: float, column: Column) -> str:
    """Return a number with the column's digits and suffix: ``"85.5"``, ``"2.0×"``, ``"nan"``."""
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else str(value)
    text = f"{value:.{column.decimals}f}{column.suffix}"
    # -0.04 at one digit is 0.0: a minus before a zero only puzzles.
    return text[1:] if text.startswith("-") and float(f"{value:.{column.decimals}f}") == 0 else text


def cell_text(cell: Cell, column: Column, usual_n: int) -> str:
    """Return ``"85.5 ± 0.3"``, with ``" [84.0†]"`` for the paper's number; a dash where nothing was measured.

    The number of values is added when it is not `usual_n`, the one that the caption states.
    """
    if cell.mean is None:
        text = DASH
    else:
        text = number_text(cell.mean, column)
        if cell.sd is not None:
            text += f" ± {cell.sd:.{column.decimals}f}"
        if column.kind == "score" and cell.n != usual_n:
            text += f" (n={cell.n})"
    if cell.paper is not None:
        text += f" [{number_text(cell.paper, column)}{UNVERIFIED if cell.paper_unverified else ''}]"
    return text


def grid(table: Table) -> list[list[str]]:
    """Return the texts of all cells, a list a row, without row titles."""
    usual = table.seed_counts()[1]
    return [
        [cell_text(table.cell(row.key, column.key), column, usual) for column in table.columns]
        for row in table.rows
    ]


def caption_sentences(table: Table) -> list[str]:
    """Return the caption, a sentence an item."""
    caption = table.caption
    seeds = _seeds(table)
    sentences = [seeds] if seeds else []
    if caption.selection:
        sentences.append(f"Selection: {caption.selection}.")
    if caption.scale:
        sentences.append(f"Scale: {caption.scale}.")
    if caption.data:
        sentences.append(f"Data: {'; '.join(caption.data)}.")
    sentences += _papers(table)
    if any(row.control for row in table.rows):
        sentences.append(f"Controls: {'; '.join(row.title for row in table.rows if row.control)}.")
    sentences += [f"{column.title}: {column.note}." for column in table.columns if column.note]
    if caption.hardware:
        sentences.append(f"Hardware: {'; '.join(caption.hardware)}.")
    if caption.commits:
        sentences.append(f"Commit: {', '.join(caption.commits)}.")
    sentences += caption.notes
    # Parts may come with their own full stop.
    return [sentence.replace("..", ".") if sentence.endswith("..") else sentence for sentence in sentences]


def one_line(text: str) -> str:
    """Return `text` on one line, with control characters (terminal escapes among them) made visible as ``�``."""
    words = " ".join(text.split())
    return "".join(char if char.isprintable() else "\ufffd" for char in words)


def _seeds(table: Table) -> str:
    least, most = table.seed_counts()
    if most == 0:
        measured = any(cell.values for line in table.cells.values() for cell in line.values())
        scored = any(column.kind == SCORE for column in table.columns)
        return "" if measured and not scored else "Nothing measured yet."
    if most == 1:
        return "One fine-tuning seed, so no deviation is known."
    if least == most:
        return f"Mean ± sample standard deviation over {most} fine-tuning seeds."
    return f"Mean ± sample standard deviation over {most} fine-tuning seeds; fewer where n is given."


def _papers(table: Table) -> list[str]:
    cells = [table.cell(row.key, column.key) for row in table.rows for column in table.columns]
    known = [cell for cell in cells if cell.paper is not None]
    unverified = [cell for cell in known if cell.paper_unverified]
    verified = [cell for cell in known if not cell.paper_unverified]
    sentences = [f"In brackets: the paper's number{_sources(verified)}."] if known else []
    if unverified:
        sentences.append(f"{UNVERIFIED} not verified in the paper{_sources(unverified)}.")
    return sentences


def _sources(cells: list[Cell]) -> str:
    sources = dict.fromkeys(one_line(cell.paper_source) for cell in cells if cell.paper_source)
    return f" ({'; '.join(sources)})" if sources else ""
