"""One table, many forms: each function takes a `Table` and returns text; `write_files` writes them all."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from minilm_lab.reports.table import Table
from minilm_lab.reports.text import DASH, caption_sentences, one_line, texts

if TYPE_CHECKING:
    from rich.console import Group

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~$&#])")
_LATEX = str.maketrans(
    {
        **{char: rf"\{char}" for char in "{}$&%#_"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': "''",
        "[": "{[}",  # a bracket after a row's \\ would be read as its optional argument
        "]": "{]}",
        "±": r"$\pm$",
        "×": r"$\times$",
        "†": r"$^\dagger$",
        "ᶜ": "$^c$",
        "ᵃ": "$^a$",
        "·": r"$\cdot$",
        "−": "$-$",
        "→": r"$\rightarrow$",
        "½": r"$\frac{1}{2}$",
        "–": "--",
        "—": "---",
        "…": r"\ldots{}",
    }
)
_TITLE_WIDTH, _LEAST_TITLE, _GAP = 30, 8, 3


def to_csv(table: Table) -> str:
    """Return the table as CSV in long form: one line a value, unrounded; an empty value is a missing cell.

    Its columns: row, control, column, kind, seed, value, paper, paper_unverified, paper_source.
    """
    control = {row.key: str(row.control).lower() for row in table.rows}
    kind = {column.key: column.kind for column in table.columns}
    values = table.frame.assign(value=table.frame["value"].map(_number))
    papers = table.summary[["row", "column", "paper", "paper_unverified", "paper_source"]]
    long = papers.merge(values, how="left", on=["row", "column"], sort=False)
    without = long["paper"].isna()
    long["paper_unverified"] = long["paper_unverified"].astype(str).str.lower().mask(without, "")
    long["paper"] = long["paper"].map(_number).mask(without, "")
    long.insert(1, "control", long["row"].map(control))
    long.insert(3, "kind", long["column"].map(kind))
    order = [*long.columns[:4], "seed", "value", *long.columns[4:7]]
    return str(long[order].to_csv(index=False, lineterminator="\n"))


def to_markdown(table: Table) -> str:
    """Return title, table and caption as GitHub Markdown; control rows have their title in italics."""
    cells = texts(table).map(lambda text: text.replace("|", r"\|"))
    cells.index = [f"*{_escaped(row.title)}*" if row.control else _escaped(row.title) for row in table.rows]
    grid = cells.to_markdown(
        tablefmt="pipe",
        headers=["", *(_escaped(column.title) for column in table.columns)],
        colalign=["left", *("right" for _ in table.columns)] if table.rows else None,
        disable_numparse=True,
    )
    caption = " ".join(map(_escaped, caption_sentences(table)))
    return f"**{_escaped(table.title)}**\n\n{grid}\n\n{caption}\n"


def to_latex(table: Table) -> str:
    r"""Return a `table` environment that needs ``\usepackage{booktabs}``; the titles of controls are in italics.

    Rows keep their order. A rule is drawn wherever control rows and other rows meet.
    """
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{latex(table.title)}. {latex(' '.join(caption_sentences(table)))}}}",
        rf"  \begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        r"    \toprule",
        "    " + "".join(f" & {latex(column.title)}" for column in table.columns).strip() + r" \\",
        r"    \midrule",
    ]
    before = table.rows[0].control if table.rows else False
    for row, cells in zip(table.rows, texts(table).itertuples(index=False), strict=True):
        lines += [r"    \midrule"] if row.control != before else []
        before = row.control
        title = rf"\textit{{{latex(row.title)}}}" if row.control else latex(row.title)
        lines.append("    " + " & ".join([title, *map(latex, cells)]) + r" \\")
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def latex(text: str) -> str:
    """Return `text` with LaTeX's special characters escaped."""
    return one_line(text).translate(_LATEX)


def to_rich(table: Table, width: int = 80) -> Group:
    """Return title, table and caption for a rich console; control rows are in italics.

    A number is never cut: columns that do not fit into `width` characters follow in a further block below.
    Titles are put in as they are: rich markup in them is text.
    """
    import rich.table
    from rich import box
    from rich.console import Group
    from rich.text import Text

    cells = texts(table)
    # Long headings over short numbers are broken between words, so that they do not widen the column.
    headings = [
        textwrap.wrap(
            one_line(column.title),
            max([8, *map(len, cells[column.key])]),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for column in table.columns
    ]
    widths = [
        max(map(len, [*heading, *cells[column.key]]), default=0)
        for heading, column in zip(headings, table.columns, strict=True)
    ]
    titles = [one_line(row.title) for row in table.rows]
    longest = max(map(len, titles), default=0)
    first = max(_LEAST_TITLE, min(_TITLE_WIDTH, longest, width - max(widths, default=0) - _GAP))
    parts: list[Text | rich.table.Table] = [Text(one_line(table.title), style="bold"), Text()]
    for block in _blocks(widths, width - first):
        grid = rich.table.Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        grid.add_column("", min_width=first, max_width=first, overflow="fold")
        for i in block:
            grid.add_column(Text("\n".join(headings[i])), justify="right", no_wrap=True, vertical="top")
        for row, title, line in zip(table.rows, titles, cells.itertuples(index=False), strict=True):
            numbers = [Text(line[i], style="dim" if line[i] == DASH else "") for i in block]
            grid.add_row(Text(title, style="italic" if row.control else ""), *numbers)
        parts += [grid, Text()]
    caption = " ".join(map(one_line, caption_sentences(table)))
    return Group(*parts, Text(caption, style="dim"))


def print_table(table: Table) -> None:
    """Print `table` to the standard output."""
    from rich.console import Console

    console = Console()
    console.print(to_rich(table, console.width))


FORMATS: dict[str, Callable[[Table], str]] = {
    "json": Table.to_json,
    "md": to_markdown,
    "tex": to_latex,
    "csv": to_csv,
}
"""File ending → the text of that file."""


def write_files(table: Table, folder: Path) -> list[Path]:
    """Write `table` into `folder` (made if absent) as table.json, .md, .tex and .csv; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for ending, render in FORMATS.items():
        path = folder / f"table.{ending}"
        path.write_text(render(table), encoding="utf-8", newline="")
        paths.append(path)
    return paths


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", one_line(text))


def _number(value: float) -> str:
    return f"{value:.10g}"


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
