"""Curves, plots and the page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from minilm_lab.errors import LabError
from minilm_lab.reports import plots
from minilm_lab.reports.curves import (
    Curve,
    curve_from_metrics,
    curve_of,
    describe,
    read_curves,
    smooth,
    thin,
    write_curves,
)
from minilm_lab.reports.drawing import WIDTH, Picture, series_style
from minilm_lab.reports.page import page_html, write_page
from minilm_lab.reports.records import Record
from minilm_lab.reports.table import Cell, Column, Row, Table

from .conftest import HOSTILE, Page

CURVE = Curve("half_depth", [(float(i), 5 - i / 100) for i in range(1, 300)], [(0.0, 5.1), (300.0, 2.2)])


def test_curve_of_a_resumed_run_takes_the_later_line_of_a_step() -> None:
    lines: list[dict[str, object]] = [
        {"step": 1, "loss": 3.0, "lr": 1e-4},
        {"step": 2, "loss": 2.5},
        {"step": 3, "loss": 9.9},
        {"step": 2, "loss": 2.4},
        {"step": 2, "held_out_loss": 2.6},
        {"step": 3, "loss": float("nan")},
        {"step": "4", "loss": 1.0},
        {"step": 5, "loss": "low"},
        {"loss": 1.0},
    ]
    curve = curve_from_metrics("run", lines)
    assert curve.training == [(1.0, 3.0), (2.0, 2.4), (3.0, 9.9)]
    assert curve.held_out == [(2.0, 2.6)]


def test_curve_of_a_record(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 3.0}) + '\n{"st')
    record = Record(tmp_path, "distill", "half_depth", "1", "RUNNING")
    assert curve_of(record) == Curve("half_depth", [(1.0, 3.0)])
    assert curve_of(record, "seed 1").label == "seed 1"


def test_smooth_is_a_running_mean() -> None:
    values = np.random.default_rng(0).normal(size=101)
    points = smooth([(float(i), float(v)) for i, v in enumerate(values)], share=0.1)
    means = np.convolve(values, np.ones(11) / 11, mode="valid")
    assert [step for step, _ in points] == list(map(float, range(101)))
    assert [value for _, value in points[5:96]] == pytest.approx(list(means))
    assert points[0][1] == pytest.approx(values[0])
    assert points[-1][1] == pytest.approx(values[-6:].mean())
    assert smooth([]) == []


def test_curves_are_read_back(tmp_path: Path) -> None:
    curves = [Curve("half", [(10.0, 4.75), (20.0, 1e-7)], [(0.0, 5.1)]), Curve("ünused")]
    path = write_curves(curves, tmp_path / "curves.json")
    assert read_curves(path) == curves
    assert read_curves(tmp_path / "none.json") == []
    long = Curve("long", [(float(i), 1 / 3) for i in range(5000)])
    [read] = read_curves(write_curves([long], path))
    assert len(read.training) == 400 and read.training[-1] == (4999.0, 0.333333)


@pytest.mark.parametrize(
    "text", ["{", "3", '[{"label": "a"}]', '[{"label": "a", "training": [[1]], "held_out": []}]']
)
def test_what_holds_no_curves(tmp_path: Path, text: str) -> None:
    (tmp_path / "curves.json").write_text(text)
    with pytest.raises(LabError, match="holds no loss curves"):
        read_curves(tmp_path / "curves.json")


def test_thin_keeps_the_ends() -> None:
    points = [(float(i), 0.0) for i in range(1000)]
    thinned = thin(points, 100)
    assert len(thinned) == 100 and thinned[0] == points[0] and thinned[-1] == points[-1]
    assert thinned == sorted(set(thinned))
    assert thin(points[:100], 100) == points[:100]


def test_describe() -> None:
    assert describe(CURVE) == (
        "half_depth: training loss 4.99 at step 1, 2.01 at step 299; "
        "held-out loss 5.1 at step 0, 2.2 at step 300."
    )
    assert describe(Curve("x")) == "x: no losses recorded."


def svg(picture: Picture | None) -> str:
    assert picture is not None
    return picture.svg()


def scores_svg(table: Table) -> str:
    return svg(plots.scores(table))


def loss_curve_svg(curves: list[Curve]) -> str:
    return svg(plots.losses(curves))


def texts(svg: str) -> str:
    return " ".join(ET.fromstring(svg).itertext())


def test_plots_are_well_formed_scalable_and_described(table: Table) -> None:
    for svg, words in (
        (loss_curve_svg([CURVE]), "training loss 4.99 at step 1"),
        (scores_svg(table), "Accuracy 85.6 ± 0.1"),
    ):
        root = ET.fromstring(svg)
        assert root.get("role") == "img" and words in (root.get("aria-label") or "")
        assert root.get("viewBox") and root.get("width") is None and root.get("height") is None
        assert "currentColor" in svg and "metadata" not in svg


def test_score_plot_shows_every_row_and_mean(table: Table) -> None:
    words = texts(scores_svg(table))
    for text in ("Accuracy", "Pearson", "85.6", "81.0", "77.5", "Teacher_6×384", "–"):
        assert text in words
    # Only score columns are bars.
    assert "Params" not in words and "Kept" not in words


def test_many_tasks_are_plotted_as_their_average() -> None:
    columns = [Column(str(i), f"Task {i}") for i in range(8)] + [Column("avg", "Mean of 8", kind="average")]
    cells = {"r": {str(i): Cell([50.0 + i]) for i in range(8)}}
    words = texts(scores_svg(Table("t", [Row("r", "R")], columns, cells)))
    assert "Mean of 8" in words and "53.5" in words and "Task" not in words


def test_losses_of_other_orders_are_on_a_logarithmic_axis() -> None:
    small, large = Curve("a", [(1.0, 0.9), (2.0, 0.1)]), Curve("b", [(1.0, 20.0), (2.0, 9.0)])
    assert "loss (logarithmic)" in texts(loss_curve_svg([small, large]))
    assert "logarithmic" not in texts(loss_curve_svg([small])) + texts(loss_curve_svg([small, small]))


def test_the_papers_numbers_are_ticks(table: Table) -> None:
    """One upright line for the one paper's number among the bars, dotted as it is not verified."""
    rows, column = [Row("a", "A"), Row("b", "B")], Column("x", "X")
    cells = {
        "a": {"x": Cell([80.0], paper=90.0)},
        "b": {"x": Cell([80.0], paper=70.0, paper_unverified=True)},
    }
    bare = {key: {"x": Cell([80.0])} for key in "ab"}
    with_paper, without = (scores_svg(Table("t", rows, [column], c)) for c in (cells, bare))
    assert with_paper.count("stroke-width: 1.6") == 2 and "stroke-width: 1.6" not in without
    ticks = re.findall(r"<path d=\"M ([\d.]+) [\d.]+ \nL ([\d.]+) [^>]*stroke-width: 1.6", with_paper)
    (left, left_end), (right, right_end) = sorted((float(a), float(b)) for a, b in ticks)
    assert left == left_end and right == right_end and left < right
    assert len(re.findall(r"stroke-dasharray[^>]*stroke-width: 1.6", with_paper)) == 1
    assert "Upright lines" in page_html("T", "", Table("t", rows, [column], cells))
    assert "Upright lines" not in page_html("T", "", Table("t", rows, [column], bare))


def test_scores_below_zero_and_nan_are_plotted() -> None:
    cells = {"a": {"x": Cell([-5.0, -3.0])}, "b": {"x": Cell([float("nan")])}, "c": {"x": Cell([0.0])}}
    table = Table("t", [Row(key, key) for key in "abc"], [Column("x", "X")], cells)
    words = texts(scores_svg(table))
    assert "-4.0" in words and "nan" in words


def test_nothing_to_plot() -> None:
    empty = Table("t", [Row("r", "R")], [Column("x", "X")])
    assert plots.scores(empty) is None and plots.losses([]) is None and plots.losses([Curve("x")]) is None


def test_png(table: Table, tmp_path: Path) -> None:
    for picture in (plots.scores(table), plots.losses([CURVE, Curve("_hidden", [(1.0, 2.0)])])):
        assert picture is not None
        pixels = matplotlib.image.imread(picture.png(tmp_path / "x.png"))
        assert pixels.shape[1] == round(WIDTH * 160)
        assert pixels[0, 0, :3].tolist() == [1.0, 1.0, 1.0] and pixels[..., :3].min() < 0.5


def test_plots_are_the_same_each_time_and_leave_settings_alone(table: Table) -> None:
    before = dict(matplotlib.rcParams)
    assert scores_svg(table) == scores_svg(table)
    assert loss_curve_svg([CURVE]) == loss_curve_svg([CURVE])
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30}):
        changed = loss_curve_svg([CURVE])
    assert changed == loss_curve_svg([CURVE])
    assert dict(matplotlib.rcParams) == before


def test_series_are_told_apart() -> None:
    assert len({series_style(i) for i in range(18)}) == 18


def test_legend_has_every_name() -> None:
    curves = [Curve(name, [(1.0, 2.0), (2.0, 1.0)]) for name in ("first", "_second", "$third_{", "<fourth>")]
    words = texts(loss_curve_svg(curves))
    assert all(curve.label in words for curve in curves)


def hostile_page() -> str:
    rows = [Row("r", HOSTILE)]
    table = Table(HOSTILE, rows, [Column("x", HOSTILE, note=HOSTILE)], {"r": {"x": Cell([1.0])}})
    return page_html(
        HOSTILE, f"{HOSTILE}\n\n{HOSTILE}", table, [Curve(HOSTILE, [(1.0, 2.0), (2.0, 1.0)])], [HOSTILE]
    )


def test_the_table_has_every_number_and_a_dash(table: Table) -> None:
    html = page_html("Title", "Intro", table).partition("<tbody>")[2].partition("</tbody>")[0]
    words = re.sub(r"<[^>]*>", "", html).replace("\xa0", " ")
    for number in ("85.6 ± 0.1 [84.0†]", "77.5 (n=1)", "95.4%", "22.7", "2.0×"):
        assert number in words
    assert html.count(">–<") == 6


def test_a_hostile_name_neither_runs_nor_leaves_its_place() -> None:
    html = hostile_page()
    page = Page(html)
    assert not set(page.tags) & {"script", "img", "iframe", "object", "embed", "link", "base", "form"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert html.count("&lt;script&gt;") >= 8


def test_the_page_fetches_nothing(table: Table) -> None:
    html = page_html("Title", "Intro", table, [CURVE], ["Note"])
    page = Page(html)
    for name, value in page.attributes:
        if name in {"href", "xlink:href", "src"}:
            assert value is not None and value.startswith("#")
    # Addresses are there as names of XML name spaces alone.
    assert not re.search(r"https?://(?!www\.w3\.org/)", html)
    assert "@import" not in html and not re.search(r"url\((?!#)", html)


def test_ids_of_two_plots_do_not_clash(table: Table) -> None:
    scores, loss = scores_svg(table), loss_curve_svg([CURVE])
    used = [set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg)) for svg in (scores, loss)]
    defined = re.findall(r' id="([^"]*)"', scores + loss)
    assert used[0] and used[1] and not used[0] & used[1]
    assert sorted(defined) == sorted(used[0] | used[1])


def test_write_page(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "index.html"
    for title in ("First", "Second"):
        assert write_page(path, title, "One.\n\nTwo.", table, [CURVE], ["Noted."]) == path
    html = path.read_text(encoding="utf-8")
    assert "<title>Second</title>" in html and "First" not in html
    assert "<p>One.</p>\n<p>Two.</p>" in html and "<li>Noted.</li>" in html
    assert html.count("<svg") == 2 and html.count("</svg>") == 2
    assert 'name="viewport"' in html and "prefers-color-scheme: dark" in html
    assert list(path.parent.iterdir()) == [path]


def test_losses_in_numbers_fold_away_when_many(table: Table) -> None:
    few, many = (page_html("T", "", table, [CURVE] * n) for n in (2, 5))
    assert few.count("training loss 4.99 at step 1") - many.count("training loss 4.99 at step 1") == 2 * (
        2 - 5
    )
    assert "<details>" not in few and many.count("<details>") == 1


def test_page_of_an_empty_table_has_no_plots() -> None:
    html = page_html("T", "", Table("t", [Row("r", "R")], [Column("x", "X")]))
    assert "<svg" not in html and "Notes" not in html and "Nothing measured yet." in html


def test_reports_import_nothing_that_trains() -> None:
    code = (
        "import sys, pkgutil, importlib, minilm_lab.reports as reports\n"
        "for m in pkgutil.walk_packages(reports.__path__, 'minilm_lab.reports.'): importlib.import_module(m.name)\n"
        "print([m for m in ('torch', 'transformers', 'lightning', 'pytorch_lightning', 'datasets', 'wandb')"
        " if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
