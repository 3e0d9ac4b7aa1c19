"""One self-contained HTML page of a result: the table, plots, notes. It needs no network and runs no script."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from minilm_lab.reports.curves import Curve, describe
from minilm_lab.reports.plots import loss_curve_svg, plotted, scores_svg
from minilm_lab.reports.renderers.html import to_html
from minilm_lab.reports.style import CSS
from minilm_lab.reports.table import Column, Table

_FEW_CURVES = 4


def write_page(
    path: str | Path,
    title: str,
    intro: str,
    table: Table,
    curves: Sequence[Curve] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write the page and return its path; folders on the way are made, an older page is replaced whole.

    Args:
        path: the HTML file.
        title: heading of the page.
        intro: plain text; an empty line begins a new paragraph.
        table: drawn as a table and as bars.
        curves: loss by step, one a distillation; without any there is no loss plot.
        notes: plain sentences, listed at the end.
    """
    return write_whole(path, page_html(title, intro, table, curves, notes))


def page_html(
    title: str, intro: str, table: Table, curves: Sequence[Curve] = (), notes: Sequence[str] = ()
) -> str:
    """Return the page that `write_page` writes."""
    plots = [
        figure("Scores", scores_svg(table), escape(scores_caption(table)), 2),
        figure("Distillation loss", loss_curve_svg(curves), loss_caption(curves), 2),
    ]
    sections = [
        f"<section>\n<h2>{escape(table.title)}</h2>\n{to_html(table)}</section>",
        f'<section class="plots">\n{"".join(plots)}</section>' if any(plots) else "",
        f"<section>\n<h2>Notes</h2>\n<ul>\n{_items(notes)}\n</ul>\n</section>" if notes else "",
    ]
    return document(
        title, f"<h1>{escape(title)}</h1>\n{paragraphs(intro)}", "\n".join(filter(None, sections))
    )


def document(title: str, header_html: str, body_html: str) -> str:
    """Return a whole HTML document with the lab's style; `title` is plain text, the rest is put in as it is."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        # Nothing is ever fetched and nothing runs, whatever a name in the page may hold.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; img-src data:\">\n"
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        f'<header>\n<p class="mark">minilm-lab</p>\n{header_html}\n</header>\n{body_html}\n'
        "</main>\n</body>\n</html>\n"
    )


def paragraphs(text: str) -> str:
    """Return plain text as HTML paragraphs; an empty line begins a new one."""
    return "\n".join(f"<p>{escape(part)}</p>" for part in text.split("\n\n") if part.strip())


def write_whole(path: str | Path, html: str) -> Path:
    """Write the file at once, replacing an older one; folders on the way are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(html, encoding="utf-8")
    partial.replace(path)
    return path


def figure(heading: str, picture: str, caption_html: str, level: int = 3) -> str:
    """Return a picture (an SVG or img element) with heading and caption; `""` without a picture."""
    if not picture:
        return ""
    return (
        f'<figure class="plot">\n<h{level}>{escape(heading)}</h{level}>\n{picture}\n'
        f"<figcaption>{caption_html}</figcaption>\n</figure>\n"
    )


def scores_caption(table: Table, columns: Sequence[Column] | None = None) -> str:
    """Return what the bars of `scores_svg` (of the same columns) show, as plain text."""
    text = "Bars are means, whiskers one sample standard deviation, dots the seeds."
    if any(row.control for row in table.rows):
        text += " Grey rows are controls."
    shown = plotted(table) if columns is None else columns
    if any(table.cell(row.key, column.key).paper is not None for row in table.rows for column in shown):
        text += " Upright lines are the paper's numbers, dotted where they were not verified."
    return text


def loss_caption(curves: Sequence[Curve]) -> str:
    """Return what the lines of `loss_curve_svg` show and their ends in numbers, as HTML."""
    text = "Thin lines are the training loss as logged, thick ones smoothed."
    if any(curve.held_out for curve in curves):
        text += " Dots are the loss on held-out text."
    numbers = "<br>\n".join(escape(describe(curve)) for curve in curves)
    if len(curves) <= _FEW_CURVES:
        return f"{text}<br>\n{numbers}"
    return f"{text}\n<details><summary>In numbers</summary>\n{numbers}\n</details>"


def _items(notes: Sequence[str]) -> str:
    return "\n".join(f"<li>{escape(note)}</li>" for note in notes)
