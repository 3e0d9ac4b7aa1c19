"""Run folders and tables to report on."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from minilm_lab.reports.table import Caption, Cell, Column, Row, Table

MakeRun = Callable[..., Path]

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> $\\frac{$ _x"
VOID = {"meta", "img", "br", "hr", "link", "input", "col", "path", "rect", "use", "circle", "line"}


class Page(HTMLParser):
    """Tags, attributes and whether every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def values(self, name: str) -> list[str]:
        return [value or "" for key, value in self.attributes if key == name]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run folder as `runs/` does; `status=None` or `result=None` leaves the file out."""

    def make(
        command: str = "finetune",
        slug: str = "sst2",
        identity: str = "0123456789abcdef",
        *,
        status: dict[str, Any] | str | None = None,
        result: dict[str, Any] | str | None = None,
        metrics: str | None = None,
    ) -> Path:
        folder = tmp_path / "runs" / command / f"{slug}-{identity}"
        folder.mkdir(parents=True)
        for name, content in (("status.json", status), ("result.json", result), ("metrics.jsonl", metrics)):
            if content is not None:
                text = content if isinstance(content, str) else json.dumps(content)
                (folder / name).write_text(text, encoding="utf-8")
        return folder

    return make


@pytest.fixture
def table() -> Table:
    """Two tasks, two seeds, one cell with one seed, one empty, numbers of a paper, awkward titles."""
    return Table(
        title="Half depth & width",
        rows=[
            Row("teacher", "Teacher_6×384", control=True, teacher="teacher"),
            Row(
                "student",
                "Student | distilled",
                teacher="teacher",
                coordinates={"layer": 4, "relations": "qq"},
            ),
            Row("none", "Student <not> distilled", control=True, teacher="teacher"),
        ],
        columns=[
            Column("acc", "Accuracy", note="sign of the rating, 100% = all right"),
            Column("rho", "Pearson"),
            Column("avg", "Avg", kind="average"),
            Column("kept", "Kept", kind="kept", suffix="%"),
            Column("params", "Params (M)", kind="measure"),
            Column("speed", "Speed-up", kind="measure", suffix="×"),
        ],
        cells={
            "teacher": {
                "acc": Cell(
                    [85.5, 85.7], [1, 2], paper=84.0, paper_unverified=True, paper_source="from memory"
                ),
                "rho": Cell([80.0, 81.0], [1, 2]),
                "avg": Cell(paper=81.5, paper_source="P1 Table 2"),
                "params": Cell([22.713216]),
                "speed": Cell([1.0]),
            },
            "student": {
                "acc": Cell([80.0, 82.0], [1, 2]),
                "rho": Cell([77.5], [1]),
                "speed": Cell([1.96]),
            },
            "none": {"acc": Cell([75.25, 75.25], [1, 2])},
        },
        caption=Caption(
            scale="demo",
            data=["dev subset, 1,200 sentences"],
            hardware=["a CPU, 2 cores"],
            commits=["0123456789"],
            selection="last epoch, nothing chosen on the dev set",
        ),
    )
