"""Table → terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import rich.table
from rich import box
from rich.console import Console, Group
from rich.text import Text

from minilm_lab.reports.table import Table
from minilm_lab.reports.text import DASH, caption_sentences, grid, one_line

_TITLE_WIDTH = 30
_LEAST_TITLE = 8
_GAP = 3


def to_rich(table: Table, width: int = 80) -> Group:
    """Return title, table and caption for a rich console; control rows are in italics.

    A number is never cut: columns that do not fit into `width` characters follow in a further block below.
    Titles are put in as they are: rich markup in them is text.
    """
    texts = grid(table)
    headings = [_heading(column.title, [line[i] for line in texts]) for i, column in enumerate(table.columns)]
    widths = [
        max(len(text) for text in [*heading.split("\n"), *(line[i] for line in texts)])
        for i, heading in enumerate(headings)
    ]
    titles = [one_line(row.title) for row in table.rows]
    longest = max((len(title) for title in titles), default=0)
    first = max(_LEAST_TITLE, min(_TITLE_WIDTH, longest, width - max(widths, default=0) - _GAP))
    parts: list[Text | rich.table.Table] = [Text(one_line(table.title), style="bold"), Text()]
    for block in _blocks(widths, width - first):
        out = rich.table.Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        out.add_column("", min_width=first, max_width=first, overflow="fold")
        for i in block:
            out.add_column(Text(headings[i]), justify="right", no_wrap=True, vertical="top")
        for row, title, line in zip(table.rows, titles, texts, strict=True):
            cells = [Text(line[i], style="dim" if line[i] == DASH else "") for i in block]
            out.add_row(Text(title, style="italic" if row.control else ""), *cells)
        parts += [out, Text()]
    caption = " ".join(one_line(sentence) for sentence in caption_sentences(table))
    return Group(*parts, Text(caption, style="dim"))


def print_table(table: Table, console: Console | None = None) -> None:
    """Print `table` to `console`, or to the standard output."""
    console = console or Console()
    console.print(to_rich(table, console.width))


def _heading(title: str, texts: list[str]) -> str:
    # Long headings over short numbers are broken between words, so that they do not widen the column.
    room = max([8, *map(len, texts)])
    return "\n".join(textwrap.wrap(one_line(title), room, break_long_words=False, break_on_hyphens=False))


def _blocks(widths: list[int], room: int) -> Iterator[list[int]]:
    block: list[int] = []
    used = 0
    for i, width in enumerate(widths):
        if block and used + width + _GAP > room:
            yield block
            block, used = [], 0
        block.append(i)
        used += width + _GAP
    yield block
