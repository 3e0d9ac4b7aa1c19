"""The report: one HTML page of every table and every distillation. It needs no network and runs no script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from minilm_lab.reports.curves import Curve, curve_of
from minilm_lab.reports.found import Experiment
from minilm_lab.reports.page import document, figure, loss_caption
from minilm_lab.reports.plots import loss_curve_svg
from minilm_lab.reports.records import COMPLETED, Record
from minilm_lab.reports.scatter import survey_svg
from minilm_lab.reports.section import anchor, command, section_html, seeds_text
from minilm_lab.reports.text import DASH, one_line

TITLE = "What a small Transformer still knows"
#: Lines that one plot of losses has at most; plots that the page has at most.
_CURVES, _FIGURES = 8, 6


def report_html(
    experiments: Sequence[Experiment], records: Sequence[Record], *, made: str, commit: str | None
) -> str:
    """Return the page.

    Args:
        experiments: what `found.find` returned, in the order of the page.
        records: runs, for the losses of distillations.
        made: when, such as `2025-01-31 12:00 UTC`.
        commit: of the code that makes the page.
    """
    measured = [e for e in experiments if e.results]
    missing = [e for e in experiments if not e.results and e.planned is not None]
    other = [e for e in experiments if not e.results and e.planned is None]
    distillations = _distillations(records)
    parts = [
        _contents([*measured, *missing], other, bool(distillations)),
        _survey(measured),
        *(section_html(experiment) for experiment in [*measured, *other, *missing]),
        distillations,
    ]
    return document(TITLE, _header(experiments, records, made, commit), "\n".join(filter(None, parts)))


def _header(
    experiments: Sequence[Experiment], records: Sequence[Record], made: str, commit: str | None
) -> str:
    shown = [e.results[0].table.caption for e in experiments if e.results]
    facts = [
        ("Made", made + (f", commit {commit}" if commit else "")),
        (
            "Tables",
            f"{len(shown)} measured, {sum(not e.results and e.planned is not None for e in experiments)} not yet",
        ),
        ("Scales", "; ".join(_distinct(c.scale for c in shown)) or DASH),
        ("Hardware", "; ".join(_distinct(h for c in shown for h in c.hardware)) or DASH),
        ("Commits", _some(_distinct(x for c in shown for x in c.commits))),
        ("Runs here", str(len(records)) if records else DASH),
    ]
    lines = "\n".join(f"<dt>{escape(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts)
    intro = (
        "Every table of this checkout: the papers' numbers beside ours where a paper has them, a dash where nothing "
        "was measured. Each table names its scale, its hardware and the command that makes it."
    )
    return f"<h1>{escape(TITLE)}</h1>\n<p>{intro}</p>\n<dl>\n{lines}\n</dl>"


def _contents(tables: Sequence[Experiment], other: Sequence[Experiment], distillations: bool) -> str:
    if not tables and not other and not distillations:
        return '<p class="meta">Nothing is here yet: <code>minilm-lab table name=demo</code> makes a first table.</p>'
    lines = []
    for experiment in tables:
        link = f'<a href="#{anchor(experiment.name)}">{_text(experiment.title)}</a>'
        if experiment.results:
            result = experiment.results[0]
            cells = len(result.table.rows) * len(result.table.columns)
            facts = [
                result.table.caption.scale or DASH,
                seeds_text(result.table),
                f"{result.measured} of {cells}",
                result.date,
            ]
        else:
            facts = [DASH, DASH, DASH, DASH]
        make = command(experiment, facts[0])
        facts_html = "".join(f"<td>{_text(fact)}</td>" for fact in facts)
        make_html = f"<code>{escape(make)}</code>" if make else DASH
        lines.append(f'<tr><th scope="row">{link}</th>{facts_html}<td class="left">{make_html}</td></tr>')
    links = [(anchor(e.name), e.title) for e in other]
    links += [("distillations", "Distillations")] if distillations else []
    also = ", ".join(f'<a href="#{target}">{_text(title)}</a>' for target, title in links)
    head = "".join(
        f'<th scope="col"{side}>{name}</th>'
        for name, side in (
            ("Table", ' class="left"'),
            ("Scale", ""),
            ("Seeds", ""),
            ("Cells", ""),
            ("Date", ""),
            ("Command", ' class="left"'),
        )
    )
    body = (
        '<div class="scroll" role="region" tabindex="0" aria-label="Contents">\n<table>\n'
        '<caption class="hidden">Tables, what was measured, and the command that makes each</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody>\n</table>\n</div>"
    )
    also_html = f'\n<p class="meta">Also: {also}</p>' if also else ""
    return f'<nav aria-labelledby="contents">\n<h2 id="contents">Contents</h2>\n{body if lines else ""}{also_html}\n</nav>'


def _survey(measured: Sequence[Experiment]) -> str:
    tables = [(e.title, e.results[0].table) for e in measured]
    caption = (
        "Each point is a row of a table: the average of its scores in percent of its teacher's (the line). Hollow "
        "squares are controls, such as the same student without distillation. Tables have different tasks, so "
        "compare within a colour."
    )
    plots = [
        figure("Kept against parameters", survey_svg(tables, "parameters"), caption),
        figure("Kept against speed", survey_svg(tables, "speed"), caption),
    ]
    if not any(plots):
        return ""
    return f'<section aria-labelledby="overview">\n<h2 id="overview">All tables at once</h2>\n<div class="plots">\n{"".join(plots)}</div>\n</section>'


def _distillations(records: Sequence[Record]) -> str:
    runs = [r for r in records if r.command == "distill"]
    runs.sort(key=lambda r: r.updated.timestamp() if r.updated else 0.0, reverse=True)
    drawn = [(run, curve) for run in runs if (curve := curve_of(run)).training or curve.held_out]
    if not drawn:
        return ""
    groups: dict[str, list[Curve]] = {}
    for run, curve in drawn:
        groups.setdefault(_group(run), []).append(curve)
    chunks = [
        (name, curves[start : start + _CURVES])
        for name, curves in groups.items()
        for start in range(0, len(curves), _CURVES)
    ]
    plots = "".join(
        figure(name, loss_curve_svg(curves), loss_caption(curves)) for name, curves in chunks[:_FIGURES]
    )
    lines = "\n".join(_run_line(run, curve) for run, curve in drawn)
    left = len(chunks) - _FIGURES
    more = f'<p class="meta">{left} more plots are left out.</p>' if left > 0 else ""
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("State", "Steps", "Loss", "Held-out loss", "Hours")
    )
    return (
        '<section id="distillations" aria-labelledby="distillations-title">\n'
        '<h2 id="distillations-title">Distillations</h2>\n<p class="meta">From the records of the runs here.</p>\n'
        f'<div class="plots">\n{plots}</div>\n{more}\n<details>\n<summary>All {len(drawn)} in numbers</summary>\n'
        '<div class="scroll" role="region" tabindex="0" aria-label="Distillations">\n<table>\n'
        '<caption class="hidden">Distillations of this folder of runs</caption>\n'
        f"<thead><tr><td></td>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table>\n</div>\n</details>\n</section>"
    )


def _group(run: Record) -> str:
    names = [run.get(f"names.{part}") for part in ("teacher", "student", "corpus", "scale")]
    found = [name for name in names if isinstance(name, str) and name]
    return ", ".join(found) if run.state == COMPLETED and found else "Unfinished"


def _run_line(run: Record, curve: Curve) -> str:
    hours = run.number("wall_clock_s")
    last = curve.training or curve.held_out
    facts = [
        run.state.lower(),
        f"{last[-1][0]:,.0f}",
        f"{curve.training[-1][1]:.4g}" if curve.training else DASH,
        f"{curve.held_out[0][1]:.4g} → {curve.held_out[-1][1]:.4g}" if curve.held_out else DASH,
        f"{hours / 3600:.2f}" if hours is not None else DASH,
    ]
    cells = "".join(f"<td>{_text(fact)}</td>" for fact in facts)
    return f'<tr><th scope="row">{_text(run.name)}</th>{cells}</tr>'


def _some(values: Sequence[str], most: int = 4) -> str:
    """The first values; each table names all of its own."""
    more = len(values) - most
    return (", ".join(values[:most]) or DASH) + (
        f" and {more} more, named below each table" if more > 0 else ""
    )


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))


def _text(text: str) -> str:
    return escape(one_line(text))
