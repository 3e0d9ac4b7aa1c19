"""One table, many forms: each function takes a `Table` and returns text; `write_files` writes them all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from minilm_lab.reports.renderers.csv import to_csv
from minilm_lab.reports.renderers.html import to_html
from minilm_lab.reports.renderers.latex import to_latex
from minilm_lab.reports.renderers.markdown import to_markdown
from minilm_lab.reports.renderers.terminal import print_table, to_rich
from minilm_lab.reports.table import Table

#: File ending → the text of that file.
FORMATS: dict[str, Callable[[Table], str]] = {
    "json": Table.to_json,
    "md": to_markdown,
    "tex": to_latex,
    "csv": to_csv,
}

__all__ = [
    "FORMATS",
    "print_table",
    "to_csv",
    "to_html",
    "to_latex",
    "to_markdown",
    "to_rich",
    "write_files",
]


def write_files(table: Table, folder: str | Path, stem: str = "table") -> list[Path]:
    """Write `table` into `folder` (made if absent) as `stem`.json, .md, .tex and .csv; return their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for ending, render in FORMATS.items():
        path = folder / f"{stem}.{ending}"
        path.write_text(render(table), encoding="utf-8", newline="")
        paths.append(path)
    return paths
