"""`minilm-lab report`: the committed tables and those made here, on one page; no model is loaded."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import yaml
from lab import Lab

from minilm_lab.commands.report import planned
from minilm_lab.commands.tables.spec import known_tables
from minilm_lab.reports.table import Cell, Column, Row, Table

SPEC = {
    "title": "Tiny",
    "intro": "A tiny table.",
    "paper": "P1 Table 2",
    "rows": [
        {"key": "teacher", "title": "{teacher} (teacher)", "overrides": ["source=teacher"], "control": True},
        {
            "key": "student",
            "title": "{shape} (½ depth): MiniLM",
            "overrides": [],
            "paper": {"sst2": 91.0, "average": {"value": 80.4, "unverified": True}, "parameters": 22},
        },
    ],
    "columns": [
        {"key": "sst2", "title": "SST-2", "overrides": ["task=sst2"]},
        {"key": "mrpc", "title": "MRPC", "overrides": ["task=mrpc"]},
    ],
}


def use_experiments(folder: Path) -> None:
    """Called in the process of the command: tables are looked for in a folder of the test."""
    from minilm_lab.commands.tables import spec

    spec.experiments_folder = lambda: folder


def test_report(lab: Lab, tmp_path: Path) -> None:
    experiments = tmp_path / "experiments"
    (experiments / "tiny").mkdir(parents=True)
    (experiments / "tiny" / "table.yaml").write_text(yaml.safe_dump(SPEC))
    (experiments / "broken").mkdir()
    (experiments / "broken" / "table.yaml").write_text(yaml.safe_dump({**SPEC, "rowz": []}))
    own = tmp_path / "runs" / "tables" / "own"
    own.mkdir(parents=True)
    table = Table("Own", [Row("r", "A row")], [Column("x", "X")], {"r": {"x": Cell([71.5])}})
    (own / "table.json").write_text(table.to_json())
    before = functools.partial(use_experiments, experiments)
    made = lab.run("report", f"paths.runs={tmp_path / 'runs'}", before=before)
    assert made.code == 0, made.err
    page = tmp_path / "runs" / "report.html"
    assert made.out == f"tables: 1 measured, 2 not\npage: {page}\n"
    html = page.read_text()
    for words in (
        "71.5",
        "½ depth: MiniLM",
        "[91.0]",
        "[80.4†]",
        "[22.0 M]",
        "P1 Table 2",
        "Did you mean &#39;rows&#39;",
    ):
        assert words in html, words
    assert "{shape}" not in html and "{teacher}" not in html

    again = lab.run(
        "report", f"paths.runs={tmp_path / 'runs'}", f"out={tmp_path / 'new' / 'p.html'}", before=before
    )
    assert again.code == 0 and (tmp_path / "new" / "p.html").exists()


def test_report_of_nothing(lab: Lab, tmp_path: Path) -> None:
    before = functools.partial(use_experiments, tmp_path / "none")
    made = lab.run("report", f"paths.runs={tmp_path / 'runs'}", before=before)
    assert made.code == 0, made.err
    assert "Nothing is here yet" in (tmp_path / "runs" / "report.html").read_text()


def test_every_table_of_the_checkout_can_be_shown() -> None:
    for name in known_tables():
        found = planned(name)
        assert found.problem == "" and found.table is not None and found.table.rows
        assert not any("{" in row.title for row in found.table.rows)


def test_the_command_imports_no_model_library() -> None:
    import subprocess

    code = "import sys, minilm_lab.commands.report\nprint([m for m in ('torch', 'transformers', 'wandb') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
