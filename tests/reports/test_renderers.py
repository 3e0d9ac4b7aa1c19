"""Golden texts of each form, escaping, dashes."""

from __future__ import annotations

import csv
import io
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from minilm_lab.reports.renderers import to_csv, to_latex, to_markdown, to_rich, write_files
from minilm_lab.reports.schema import Caption
from minilm_lab.reports.table import Cell, Column, Row, Table
from minilm_lab.reports.text import UNTUNED, cell_text

MARKDOWN = r"""**Half depth \& width**

|                             |           Accuracy |    Pearson |               Avg |   Kept |   Params (M) |   Speed-up |
|:----------------------------|-------------------:|-----------:|------------------:|-------:|-------------:|-----------:|
| *Teacher\_6×384*            | 85.6 ± 0.1 [84.0†] | 80.5 ± 0.7 | 83.0 ± 0.4 [81.5] | 100.0% |         22.7 |       1.0× |
| Student \| distilled        |         81.0 ± 1.4 | 77.5 (n=1) |              79.2 |  95.4% |            – |       2.0× |
| *Student \<not\> distilled* |         75.2 ± 0.0 |          – |                 – |      – |            – |          – |

Mean ± sample standard deviation over 2 fine-tuning seeds; fewer where n is given. Selection: last epoch, nothing chosen on the dev set. Scale: demo. Data: dev subset, 1,200 sentences. In brackets: the paper's number (P1 Table 2). † not verified in the paper (from memory). Controls: Teacher\_6×384; Student \<not\> distilled. Accuracy: sign of the rating, 100% = all right. Hardware: a CPU, 2 cores. Commit: 0123456789.
"""

LATEX = r"""\begin{table}
  \centering
  \caption{Half depth \& width. Mean $\pm$ sample standard deviation over 2 fine-tuning seeds; fewer where n is given. Selection: last epoch, nothing chosen on the dev set. Scale: demo. Data: dev subset, 1,200 sentences. In brackets: the paper's number (P1 Table 2). $^\dagger$ not verified in the paper (from memory). Controls: Teacher\_6$\times$384; Student \textless{}not\textgreater{} distilled. Accuracy: sign of the rating, 100\% = all right. Hardware: a CPU, 2 cores. Commit: 0123456789.}
  \begin{tabular}{lrrrrrr}
    \toprule
    & Accuracy & Pearson & Avg & Kept & Params (M) & Speed-up \\
    \midrule
    \textit{Teacher\_6$\times$384} & 85.6 $\pm$ 0.1 {[}84.0$^\dagger${]} & 80.5 $\pm$ 0.7 & 83.0 $\pm$ 0.4 {[}81.5{]} & 100.0\% & 22.7 & 1.0$\times$ \\
    \midrule
    Student \textbar{} distilled & 81.0 $\pm$ 1.4 & 77.5 (n=1) & 79.2 & 95.4\% & -- & 2.0$\times$ \\
    \midrule
    \textit{Student \textless{}not\textgreater{} distilled} & 75.2 $\pm$ 0.0 & -- & -- & -- & -- & -- \\
    \bottomrule
  \end{tabular}
\end{table}
"""

CSV = """\
row,control,column,kind,seed,value,paper,paper_unverified,paper_source
teacher,true,acc,score,1,85.5,84,true,from memory
teacher,true,acc,score,2,85.7,84,true,from memory
teacher,true,rho,score,1,80,,,
teacher,true,rho,score,2,81,,,
teacher,true,avg,average,1,82.75,81.5,false,P1 Table 2
teacher,true,avg,average,2,83.35,81.5,false,P1 Table 2
teacher,true,kept,kept,,100,,,
teacher,true,params,measure,,22.713216,,,
teacher,true,speed,measure,,1,,,
student,false,acc,score,1,80,,,
student,false,acc,score,2,82,,,
student,false,rho,score,1,77.5,,,
student,false,avg,average,,79.25,,,
student,false,kept,kept,,95.42444311,,,
student,false,params,measure,,,,,
student,false,speed,measure,,1.96,,,
none,true,acc,score,1,75.25,,,
none,true,acc,score,2,75.25,,,
none,true,rho,score,,,,,
none,true,avg,average,,,,,
none,true,kept,kept,,,,,
none,true,params,measure,,,,,
none,true,speed,measure,,,,,
"""

HOSTILE = "<script>alert(1)</script> [bold]x[/bold] a|b \\n $x_1$ & % # { } ~ ^ \x1b[31mred\nline `c` *i*"


@pytest.fixture
def hostile() -> Table:
    return Table(
        HOSTILE, [Row("r", HOSTILE)], [Column("x", HOSTILE, note=HOSTILE)], {"r": {"x": Cell([1.0])}}
    )


def terminal(table: Table, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(to_rich(table, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_golden_markdown(table: Table) -> None:
    assert to_markdown(table) == MARKDOWN


def test_golden_latex(table: Table) -> None:
    assert to_latex(table) == LATEX


def test_golden_csv(table: Table) -> None:
    assert to_csv(table) == CSV


def test_csv_carries_every_value_unrounded(table: Table) -> None:
    lines = list(csv.DictReader(io.StringIO(to_csv(table))))
    values = [float(line["value"]) for line in lines if line["row"] == "teacher" and line["column"] == "acc"]
    assert values == table.cells["teacher"]["acc"].values


@pytest.mark.parametrize(
    ("cell", "column", "text"),
    [
        (Cell(), Column("x", "X"), "–"),
        (Cell(paper=80.04), Column("x", "X"), "– [80.0]"),
        (Cell([80.0, 81.0, 82.0], paper=80.0, paper_unverified=True), Column("x", "X"), "81.0 ± 1.0 [80.0†]"),
        (Cell([80.0]), Column("x", "X"), "80.0 (n=1)"),
        (Cell([2.04]), Column("x", "X", kind="measure", suffix="×"), "2.0×"),
        (Cell([12.345]), Column("x", "X", kind="measure", decimals=2), "12.35"),
        (Cell([-0.04, -0.04, -0.04]), Column("x", "X"), "0.0 ± 0.0"),
        (Cell([-7.25, -7.25, -7.25]), Column("x", "X"), "-7.2 ± 0.0"),
        (Cell([math.nan, 80.0, 80.0]), Column("x", "X"), "nan ± nan"),
    ],
)
def test_text_of_a_cell(cell: Cell, column: Column, text: str) -> None:
    shown = Table("t", [Row("r", "R")], [column], {"r": {"x": cell}}).cell("r", "x")
    assert cell_text(shown, column, usual_n=3) == text


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ([], "Nothing measured yet."),
        ([1, 1], "One fine-tuning seed, so no deviation is known."),
        ([4, 4], "over 4 fine-tuning seeds. "),
        ([4, 2], "over 4 fine-tuning seeds; fewer where n is given."),
    ],
)
def test_caption_says_how_many_seeds(counts: list[int], says: str) -> None:
    rows = [Row(str(i), str(i)) for i in range(len(counts))]
    cells = {str(i): {"x": Cell([1.0] * n)} for i, n in enumerate(counts)}
    assert says in to_markdown(Table("t", rows, [Column("x", "X", note="n")], cells))


def test_markdown_of_hostile_text_stays_one_table(hostile: Table) -> None:
    text = to_markdown(hostile)
    lines = [line for line in text.split("\n") if line.startswith("|")]
    assert len(lines) == 3
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines)
    assert not re.search(r"(?<!\\)[<>`$]", text)
    assert "\x1b" not in text


def test_latex_of_hostile_text_has_no_bare_special(hostile: Table) -> None:
    line = next(line for line in to_latex(hostile).split("\n") if "alert" in line and r"\\" in line)
    bare = re.sub(r"\\[{}$&%#_]|\\[a-z]+\{\}|\$\\pm\$", "", line.removesuffix(r"\\"))
    assert not re.search(r"[$%#_~^<>|\\]", bare)


def test_latex_compiles(table: Table, hostile: Table, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    body = to_latex(table) + to_latex(Table("ascii", hostile.rows, [Column("x", "&%$#_{}~^\\")]))
    body = body.replace("\ufffd", "?")
    source = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "t.tex").write_text(source, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:]


@pytest.mark.parametrize("width", [30, 80, 200])
def test_terminal_cuts_no_number_at_any_width(table: Table, width: int) -> None:
    text = terminal(table, width)
    for number in ("85.6 ± 0.1 [84.0†]", "83.0 ± 0.4 [81.5]", "77.5 (n=1)", "95.4%", "22.7", "2.0×"):
        assert number in text
    assert "…" not in text
    assert text.count("–") == 6


def test_terminal_shows_markup_as_text(hostile: Table) -> None:
    text = terminal(hostile, 200)
    assert "[bold]x[/bold]" in text
    assert "\x1b" not in text


def test_empty_tables_render() -> None:
    for table in (Table("t", [], []), Table("t", [Row("r", "R")], []), Table("t", [], [Column("x", "X")])):
        for render in (to_markdown, to_latex, to_csv, terminal):
            assert render(table)


def test_write_files(table: Table, tmp_path: Path) -> None:
    paths = write_files(table, tmp_path / "experiments" / "demo")
    assert [path.name for path in paths] == ["table.json", "table.md", "table.tex", "table.csv"]
    assert Table.from_json(paths[0].read_text(encoding="utf-8")) == table
    assert paths[1].read_text(encoding="utf-8") == MARKDOWN
    assert paths[3].read_bytes() == CSV.encode()


def test_a_caption_says_where_nothing_was_fine_tuned() -> None:
    caption = Caption(selection=UNTUNED)
    text = to_markdown(Table("t", [Row("r", "R")], [Column("x", "X")], {"r": {"x": Cell([1.0])}}, caption))
    assert "One value a cell: nothing was fine-tuned." in text
    assert "seed" not in text and "Selection" not in text
