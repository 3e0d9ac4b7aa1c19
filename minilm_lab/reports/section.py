"""One table of the report as HTML: what it claims, the newest result, its plots, the other results folded away."""

from __future__ import annotations

import base64
import re
from html import escape
from pathlib import Path

from minilm_lab.errors import LabError
from minilm_lab.reports import prose
from minilm_lab.reports.found import Experiment, Result
from minilm_lab.reports.heatmap import axes_of, heatmap_svg
from minilm_lab.reports.page import figure, loss_caption, paragraphs, scores_caption
from minilm_lab.reports.plots import loss_curve_svg, scores_svg
from minilm_lab.reports.renderers.html import to_html
from minilm_lab.reports.scatter import ALL_NAMED, headline, scatter_svg
from minilm_lab.reports.table import AVERAGE, SCORE, Column, Table
from minilm_lab.reports.text import DASH, one_line

#: What a row costs: column of a table, heading of the plot of its score, whether more of it is better.
COSTS = (("parameters", "Score against parameters", False), ("speed", "Score against speed", True))
_MARKS = "Filled circles are students, hollow squares controls, the diamond the teacher; whiskers one standard deviation."
_FEW_NAMED = " Named are controls, and students than which no other one is better in both."
_MAP_CAPTION = "Means over seeds; a dash was not measured."
_LARGEST_PICTURE = 400_000
_MANY_BARS = 24


def anchor(name: str) -> str:
    """Return the id of the section of experiment `name`."""
    return "t-" + (re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-") or "table")


def command(experiment: Experiment, scale: str = "") -> str:
    """Return the command that makes the table; `""` where none does."""
    if experiment.planned is None or experiment.planned.problem:
        return ""
    words = f"minilm-lab table name={experiment.name}"
    return f"{words} scale={scale}" if scale in experiment.planned.scales else words


def section_html(experiment: Experiment) -> str:
    """Return the section of one experiment."""
    here = anchor(experiment.name)
    parts = [f'<h2 id="{here}-title">{_text(experiment.title)}</h2>']
    shown = experiment.results[0] if experiment.results else None
    parts.append(_meta(experiment, shown))
    claim = prose.claim_of(experiment.readme)
    if claim and (shown is not None or experiment.planned is not None):
        parts.append(f'<div class="claim">{prose.to_html(f"**Claim.** {claim}")}</div>')
    parts.append(paragraphs(experiment.intro))
    planned = experiment.planned.table if experiment.planned is not None else None
    if shown is not None:
        parts += [to_html(shown.table), _plots(shown), _missing(experiment, shown)]
        if planned is not None and _papers(planned) > _papers(shown.table):
            parts.append(_folded("The paper's table", to_html(planned)))
        for result in experiment.results[1:]:
            parts.append(_folded(f"Also measured: {_where(result)}", to_html(result.table) + _plots(result)))
    elif planned is not None:
        parts.append(to_html(planned))
    if experiment.readme:
        body = f'<div class="prose">{prose.to_html(prose.without_title(experiment.readme))}</div>'
        alone = shown is None and experiment.planned is None
        parts.append(body if alone else _folded("Reproducing it, what is fair and what is not", body))
    parts += [_other(file) for file in experiment.other]
    parts += [f'<p class="problem">Not readable: {_text(problem)}</p>' for problem in experiment.problems]
    body = "\n".join(part for part in parts if part)
    return f'<section id="{here}" class="result" aria-labelledby="{here}-title">\n{body}\n</section>'


def seeds_text(table: Table) -> str:
    """Return the number of fine-tuning seeds in words; a dash where nothing was measured."""
    least, most = table.seed_counts()
    if not most:
        return DASH
    return f"{most} seed{'s' if most > 1 else ''}" if least == most else f"{least} to {most} seeds"


def _meta(experiment: Experiment, shown: Result | None) -> str:
    if shown is None:
        words = command(experiment)
        if not words:
            return ""
        scales = experiment.planned.scales if experiment.planned is not None else []
        choice = f" (scale: {', '.join(scales)})" if scales else ""
        return f'<p class="meta">{DASH} not measured yet: <code>{escape(words)}</code>{escape(choice)}</p>'
    facts = [_where(shown)]
    words = command(experiment, shown.table.caption.scale)
    again = f" · <code>{escape(words)}</code>" if words else ""
    return f'<p class="meta">{" · ".join(map(_text, facts))}{again}</p>'


def _where(result: Result) -> str:
    scale = result.table.caption.scale
    kind = "committed" if result.committed else "made here"
    return ", ".join(
        filter(None, [scale and f"{scale} scale", seeds_text(result.table), f"{kind} {result.date}"])
    )


def _plots(result: Result) -> str:
    table = result.table
    column = headline(table)
    marks = _MARKS + (_FEW_NAMED if len(table.rows) > ALL_NAMED else "")
    bars = len(table.rows) * sum(c.kind == SCORE for c in table.columns)
    folded = ""
    if column is not None and column.kind == AVERAGE and bars > _MANY_BARS:
        plots = [_bars(table, [column])]
        folded = _folded("Scores of each task", _bars(table, [c for c in table.columns if c.kind == SCORE]))
    else:
        plots = [_bars(table, None)]
    plots += [
        figure(title, scatter_svg(table, key, more_is_better=more), escape(marks))
        for key, title, more in COSTS
    ]
    grid = axes_of(table)
    if column is not None and grid is not None:
        heading = f"{column.title} by {grid[0]} and {grid[1]}"
        plots.append(figure(heading, _heatmap(table, *grid, column.key), escape(_MAP_CAPTION)))
    if result.curves:
        plots.append(figure("Distillation loss", loss_curve_svg(result.curves), loss_caption(result.curves)))
    else:
        plots += [
            figure("Distillation loss", _picture(file, "Loss by step"), "As rendered with the table.")
            for file in result.pictures
            if file.name == "loss.png"
        ]
    return f'<div class="plots">\n{"".join(plots)}</div>\n{folded}' if any(plots) else ""


def _bars(table: Table, columns: list[Column] | None) -> str:
    return figure("Scores", scores_svg(table, columns), escape(scores_caption(table, columns)))


def _heatmap(table: Table, x: str, y: str, column: str) -> str:
    try:
        return heatmap_svg(table, x, y, column)
    except LabError:  # rows share a place: they differ in something that is no coordinate
        return ""


def _missing(experiment: Experiment, shown: Result) -> str:
    words = command(experiment, shown.table.caption.scale)
    keys = [(row.key, column.key) for row in shown.table.rows for column in shown.table.columns]
    gaps = sum(shown.table.cell(*key).n == 0 for key in keys)
    if not gaps or not words:
        return ""
    cells = "1 cell is" if gaps == 1 else f"{gaps} cells are"
    return f'<p class="meta">{cells} missing ({DASH}): <code>{escape(words)}</code> runs what it can.</p>'


def _other(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return f'<p class="problem">Not readable: {_text(f"{file.name}: {error}")}</p>'
    pictures = "".join(_picture(p, p.stem) for p in sorted(file.parent.glob("*.png")) if p.stem == file.stem)
    heading = f"{file.parent.name}: {file.stem}"
    return _folded(heading, f'<div class="prose">{prose.to_html(text)}{pictures}</div>')


def _picture(file: Path, words: str) -> str:
    try:
        data = file.read_bytes()
    except OSError:
        return ""
    if len(data) > _LARGEST_PICTURE:
        return ""
    return f'<img alt="{escape(words)}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'


def _folded(summary: str, body: str) -> str:
    return f"<details>\n<summary>{_text(summary)}</summary>\n{body}\n</details>"


def _papers(table: Table) -> int:
    return sum(table.cell(row.key, c.key).paper is not None for row in table.rows for c in table.columns)


def _text(text: str) -> str:
    return escape(one_line(text))
