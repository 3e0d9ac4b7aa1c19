"""Table → an HTML fragment: the table and its caption, everything escaped."""

from __future__ import annotations

from html import escape

from minilm_lab.reports.table import Cell, Column, Table
from minilm_lab.reports.text import DASH, UNVERIFIED, caption_sentences, number_text, one_line


def to_html(table: Table) -> str:
    """Return ``<figure>`` with title, table (in a box that scrolls sideways) and caption; no style of its own."""
    usual = table.seed_counts()[1]
    head = "".join(f'<th scope="col">{_words(column.title)}</th>' for column in table.columns)
    body = []
    for row in table.rows:
        cells = "".join(
            f"<td>{_cell(table.cell(row.key, column.key), column, usual)}</td>" for column in table.columns
        )
        kind = ' class="control"' if row.control else ""
        body.append(f'<tr{kind}><th scope="row">{_text(row.title)}</th>{cells}</tr>')
    rows = "\n".join(body)
    # A wide table has deviations and the paper's numbers below ours, so that more columns are seen at once.
    stacked = ' class="stacked"' if len(table.columns) > 7 else ""
    caption = " ".join(_text(sentence) for sentence in caption_sentences(table))
    return (
        '<figure class="table">\n'
        f'<div class="scroll" role="region" tabindex="0" aria-label="{_text(table.title)}">\n<table{stacked}>\n'
        f'<caption class="hidden">{_text(table.title)}</caption>\n'
        f"<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n"
        f"<figcaption>{caption}</figcaption>\n</figure>\n"
    )


def _cell(cell: Cell, column: Column, usual_n: int) -> str:
    if cell.mean is None:
        parts = [f'<span class="missing" title="not measured">{DASH}</span>']
    else:
        parts = [f"<b>{_text(number_text(cell.mean, column))}</b>"]
        if cell.sd is not None:
            parts.append(f'<span class="sd">±&nbsp;{cell.sd:.{column.decimals}f}</span>')
        if column.kind == "score" and cell.n != usual_n:
            parts.append(f'<span class="sd">(n={cell.n})</span>')
    if cell.paper is not None:
        mark = UNVERIFIED if cell.paper_unverified else ""
        source = f' title="{_text(cell.paper_source)}"' if cell.paper_source else ""
        parts.append(f'<span class="paper"{source}>[{_text(number_text(cell.paper, column))}{mark}]</span>')
    return " ".join(parts)


def _words(text: str) -> str:
    # Headings break between words alone, not behind the hyphen of "MNLI-m".
    return " ".join(f'<span class="word">{escape(word)}</span>' for word in one_line(text).split())


def _text(text: str) -> str:
    return escape(one_line(text))
