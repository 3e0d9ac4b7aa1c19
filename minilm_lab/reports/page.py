"""HTML pages that stand alone: one of a table, and the report of all. They need no network and run no script.

What they look like is in `templates/`; everything put into them is escaped there.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from minilm_lab.reports import plots, prose
from minilm_lab.reports.curves import Curve, curve_of, describe
from minilm_lab.reports.drawing import Picture
from minilm_lab.reports.heatmap import heatmap
from minilm_lab.reports.records import COMPLETED, Record
from minilm_lab.reports.results import Experiment, Result
from minilm_lab.reports.scatter import ALL_NAMED, scatter, survey
from minilm_lab.reports.table import AVERAGE, SCORE, Column, Table
from minilm_lab.reports.text import DASH, caption_sentences, cell_parts, one_line
from minilm_lab.runs.files import write_atomically

TITLE = "What a small Transformer still knows"
_COSTS = (("parameters", "Score against parameters", False), ("speed", "Score against speed", True))
"""What a row costs: column of a table, heading of the plot of its score, whether more of it is better."""
_MARKS = "Filled circles are students, hollow squares controls, the diamond the teacher; whiskers one standard deviation."
_FEW_NAMED = " Named are controls, and students than which no other one is better in both."
_SURVEY = (
    "Each point is a row of the panel's table: the average of its scores in percent of its teacher's (the line). "
    "Hollow squares are controls, such as the same student without distillation. Grey dots are all the other tables; "
    "they have other tasks, so compare within a panel."
)
_LARGEST_PICTURE, _MANY_BARS = 400_000, 24
_CURVES, _FIGURES = 8, 6
"""Lines that one plot of losses has at most; plots of losses that the report has at most."""


@dataclass(frozen=True)
class Figure:
    """A picture on a page."""

    heading: str
    picture: str
    """Markup: an SVG or img element."""
    caption: str
    numbers: Sequence[str] = ()
    """What it shows in numbers, a line an item."""


def write_page(
    path: str | Path,
    title: str,
    intro: str,
    table: Table,
    curves: Sequence[Curve] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write the page of one table and return its path; an older page is replaced whole.

    Args:
        path: the HTML file; folders on the way are made.
        title: heading of the page.
        intro: plain text; an empty line begins a new paragraph.
        table: drawn as a table and as bars.
        curves: loss by step, one a distillation; without any there is no loss plot.
        notes: plain sentences, listed at the end.
    """
    write_atomically(Path(path), page_html(title, intro, table, curves, notes).encode())
    return Path(path)


def page_html(
    title: str, intro: str, table: Table, curves: Sequence[Curve] = (), notes: Sequence[str] = ()
) -> str:
    """Return the page that `write_page` writes."""
    figures = [*_scores(table), *_losses("Distillation loss", curves)]
    return _render("table.html", title=title, intro=intro, table=table, figures=figures, notes=notes)


def report_html(
    experiments: Sequence[Experiment], records: Sequence[Record], *, date: str, commit: str | None
) -> str:
    """Return the report.

    Args:
        experiments: what `results.find` returned, in the order of the page.
        records: runs, for the losses of distillations.
        date: when it is made, such as `2025-01-31 12:00 UTC`.
        commit: of the code that makes the page.
    """
    measured = [e for e in experiments if e.results]
    missing = [e for e in experiments if not e.results and e.planned is not None]
    tables = [(e.title, e.results[0].table) for e in measured]
    captions = [table.caption for _, table in tables]
    commits = _distinct(commit for caption in captions for commit in caption.commits)
    more = f" and {len(commits) - 4} more, named below each table" if len(commits) > 4 else ""
    facts = {
        "Made": date + (f", commit {commit}" if commit else ""),
        "Tables": f"{len(measured)} measured, {len(missing)} not yet",
        "Scales": "; ".join(_distinct(caption.scale for caption in captions)),
        "Hardware": "; ".join(_distinct(where for caption in captions for where in caption.hardware)),
        "Commits": ", ".join(commits[:4]) + more,
        "Runs here": str(len(records) or ""),
    }
    overview = [
        *_figure("Kept against parameters", survey(tables, "parameters"), _SURVEY),
        *_figure("Kept against speed", survey(tables, "speed"), _SURVEY),
    ]
    return _render(
        "report.html",
        title=TITLE,
        facts=[(name, fact or DASH) for name, fact in facts.items()],
        measured=measured,
        missing=missing,
        other=[e for e in experiments if not e.results and e.planned is None],
        overview=overview,
        distillations=_distillations(records),
    )


def _render(template: str, **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "caption": lambda table: map(one_line, caption_sentences(table)),
        "figures": _figures,
        "line": lambda text: one_line(str(text)),
        "lines": lambda texts: Markup("<br>\n").join(texts),
        "markdown": lambda text: Markup(prose.to_html(text)),
        "parts": cell_parts,
        "picture": _embedded,
    }
    return environment.get_template(template).render(values).strip() + "\n"


def _figures(result: Result) -> tuple[list[Figure], list[Figure]]:
    """The pictures of a table, and those of its single tasks where they are many."""
    table = result.table
    column = table.headline
    bars = len(table.rows) * sum(c.kind == SCORE for c in table.columns)
    each_task: list[Figure] = []
    if column is not None and column.kind == AVERAGE and bars > _MANY_BARS:
        figures = _scores(table, [column])
        each_task = _scores(table, [c for c in table.columns if c.kind == SCORE])
    else:
        figures = _scores(table)
    marks = _MARKS + (_FEW_NAMED if len(table.rows) > ALL_NAMED else "")
    for key, title, more in _COSTS:
        figures += _figure(title, scatter(table, key, more_is_better=more), marks)
    grid = heatmap(table)
    if grid is not None:
        heading = grid.title.removesuffix(f": {table.title}")
        figures += _figure(heading, grid, "Means over seeds; a dash was not measured.")
    figures += _losses("Distillation loss", result.curves)
    drawn = result.file.with_name("loss.png")
    if not result.curves and (picture_html := _embedded(drawn, "Loss by step")):
        figures.append(Figure("Distillation loss", picture_html, "As rendered with the table."))
    return figures, each_task


def _figure(heading: str, picture: Picture | None, caption: str, numbers: Sequence[str] = ()) -> list[Figure]:
    return [] if picture is None else [Figure(heading, Markup(picture.svg()), caption, numbers)]


def _scores(table: Table, columns: Sequence[Column] | None = None) -> list[Figure]:
    caption = "Bars are means, whiskers one sample standard deviation, dots the seeds."
    if any(row.control for row in table.rows):
        caption += " Grey rows are controls."
    shown = [column.key for column in (plots.plotted(table) if columns is None else columns)]
    if table.summary["paper"][table.summary["column"].isin(shown)].notna().any():
        caption += " Upright lines are the paper's numbers, dotted where they were not verified."
    return _figure("Scores", plots.scores(table, columns), caption)


def _losses(heading: str, curves: Sequence[Curve]) -> list[Figure]:
    caption = "Thin lines are the training loss as logged, thick ones smoothed."
    if any(curve.held_out for curve in curves):
        caption += " Dots are the loss on held-out text."
    return _figure(heading, plots.losses(curves), caption, [describe(curve) for curve in curves])


def _embedded(file: Path, words: str) -> str:
    """A PNG file as an img element; `""` if it is not there or too large."""
    if not file.is_file() or file.stat().st_size > _LARGEST_PICTURE:
        return ""
    data = base64.b64encode(file.read_bytes()).decode()
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(words, data)


def _distillations(records: Sequence[Record]) -> dict[str, Any] | None:
    runs = [record for record in records if record.command == "distill"]
    runs.sort(key=lambda run: run.updated.timestamp() if run.updated else 0.0, reverse=True)
    drawn = [(run, curve) for run in runs if (curve := curve_of(run)).training or curve.held_out]
    groups: dict[str, list[Curve]] = {}
    for run, curve in drawn:
        groups.setdefault(_group(run), []).append(curve)
    chunks = [
        (name, curves[start : start + _CURVES])
        for name, curves in groups.items()
        for start in range(0, len(curves), _CURVES)
    ]
    return (
        drawn
        and {  # type: ignore[return-value]
            "figures": [figure for name, curves in chunks[:_FIGURES] for figure in _losses(name, curves)],
            "left_out": len(chunks) - _FIGURES,
            "lines": [_run_line(run, curve) for run, curve in drawn],
        }
    )


def _group(run: Record) -> str:
    names = [run.get(f"names.{part}") for part in ("teacher", "student", "corpus", "scale")]
    known = [name for name in names if isinstance(name, str) and name]
    return ", ".join(known) if run.state == COMPLETED and known else "Unfinished"


def _run_line(run: Record, curve: Curve) -> list[str]:
    seconds = run.number("wall_clock_s")
    return [
        run.name,
        run.state.lower(),
        f"{(curve.training or curve.held_out)[-1][0]:,.0f}",
        f"{curve.training[-1][1]:.4g}" if curve.training else DASH,
        f"{curve.held_out[0][1]:.4g} → {curve.held_out[-1][1]:.4g}" if curve.held_out else DASH,
        DASH if seconds is None else f"{seconds / 3600:.2f}",
    ]


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(filter(None, values)))
