"""Table → GitHub Markdown."""

from __future__ import annotations

import re

from minilm_lab.reports.table import Table
from minilm_lab.reports.text import caption_sentences, grid, one_line

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~$&#])")


def to_markdown(table: Table) -> str:
    """Return title, table and caption as Markdown; control rows have their title in italics."""
    header = ["", *(_escape(column.title) for column in table.columns)]
    lines = [header]
    for row, texts in zip(table.rows, grid(table), strict=True):
        title = _escape(row.title)
        lines.append([f"*{title}*" if row.control else title, *(_escape_cell(text) for text in texts)])
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    body = [_line(lines[0], widths), _line(rule, widths), *(_line(line, widths) for line in lines[1:])]
    caption = " ".join(_escape(sentence) for sentence in caption_sentences(table))
    return f"**{_escape(table.title)}**\n\n" + "\n".join(body) + f"\n\n{caption}\n"


def _line(cells: list[str], widths: list[int]) -> str:
    first, *rest = (
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "| " + " | ".join([first, *rest]) + " |"


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", one_line(text))


def _escape_cell(text: str) -> str:
    # Numbers in brackets are no link unless "(" follows, which no cell has: left readable.
    return text.replace("|", r"\|")
