"""Which tables there are: committed results of experiments/, and tables rendered beside the runs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from minilm_lab.errors import LabError
from minilm_lab.reports.curves import Curve, read_curves
from minilm_lab.reports.table import Table
from minilm_lab.reports.text import DASH

SCALES = ("demo", "laptop", "gpu", "paper")
"""From the smallest to the largest."""
_CLAIM = re.compile(r"^\*\*Claim\.?\*\*:?\s*(.+?)(?:\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Result:
    """One table that was measured."""

    table: Table
    file: Path
    """Its table.json; other files beside it belong to it."""
    date: str
    """Day it was committed, or else written: `2025-01-31`."""
    committed: bool
    """Whether it lies in experiments/, not beside the runs."""
    curves: list[Curve] = field(default_factory=list)
    """Losses of its distillations, from curves.json beside it."""

    @property
    def gaps(self) -> int:
        """Number of cells without a value."""
        return int((self.table.summary["n"] == 0).sum())

    @property
    def measured(self) -> int:
        """Number of cells with a value."""
        return len(self.table.summary) - self.gaps

    @property
    def seeds(self) -> str:
        """Number of fine-tuning seeds in words; a dash where nothing was measured."""
        least, most = self.table.seed_counts()
        if not most:
            return DASH
        return f"{most} seed{'s' if most > 1 else ''}" if least == most else f"{least} to {most} seeds"

    @property
    def facts(self) -> tuple[str, str, str, str]:
        """Scale, seeds, cells and date, for the list of contents."""
        cells = f"{self.measured} of {self.measured + self.gaps}"
        return self.table.caption.scale or DASH, self.seeds, cells, self.date

    @property
    def where(self) -> str:
        """Scale, seeds, and where and when it was made, in words."""
        scale = self.table.caption.scale
        place = "committed" if self.committed else "made here"
        return ", ".join(filter(None, [scale and f"{scale} scale", self.seeds, f"{place} {self.date}"]))


@dataclass(frozen=True)
class Planned:
    """What the file of a table says, before anything was run."""

    title: str
    intro: str = ""
    table: Table | None = None
    """Its rows and columns with the paper's numbers, nothing measured."""
    scales: list[str] = field(default_factory=list)
    """Scales that it can be made at with `scale=…`; empty where its experiment has one."""
    problem: str = ""
    """Why the file cannot be read."""


@dataclass(frozen=True)
class Experiment:
    """A folder of experiments/, or a table rendered beside the runs that has none."""

    name: str
    title: str
    intro: str = ""
    readme: str = ""
    """README.md; empty if there is none."""
    planned: Planned | None = None
    """What its table.yaml says; None without one: `minilm-lab table` cannot make it."""
    results: list[Result] = field(default_factory=list)
    """The user's own first (newest first), then committed ones, the largest scale first."""
    other: list[Path] = field(default_factory=list)
    """Other results in Markdown, such as a benchmark's."""
    problems: list[str] = field(default_factory=list)
    """Files that could not be read, and why."""

    @property
    def anchor(self) -> str:
        """Id of its section on the page."""
        return "t-" + (re.sub(r"[^a-zA-Z0-9]+", "-", self.name).strip("-") or "table")

    @property
    def claim(self) -> str:
        """The paragraph after ``**Claim.**`` of the README, as Markdown; `""` if there is none."""
        claim = _CLAIM.search(self.readme)
        return " ".join(claim[1].split()) if claim else ""

    @property
    def prose(self) -> str:
        """The README without a heading on its first line."""
        return re.sub(r"\A\s*# [^\n]*\n", "", self.readme)

    def command(self, scale: str = "") -> str:
        """Return the command that makes the table; `""` where none does."""
        if self.planned is None or self.planned.problem:
            return ""
        words = f"minilm-lab table name={self.name}"
        return f"{words} scale={scale}" if scale in self.planned.scales else words


def find(experiments: Path, runs: Path, planned: Mapping[str, Planned]) -> list[Experiment]:
    """Return all experiments and rendered tables, ordered by name (table2 before table10).

    A file that cannot be read is one of the `problems` of its experiment.

    Args:
        experiments: folder of `<name>/results/**/table.json` and `<name>/README.md`.
        runs: folder of `tables/<name>/**/table.json`, or `tables/<name>-<scale>/…`.
        planned: what the tables' own files say, by name.
    """
    names = {*planned, *(f.name for f in _folders(experiments) if (f / "results").is_dir())}
    rendered: dict[str, list[Path]] = {name: [] for name in names}
    for folder in sorted(_folders(runs / "tables")):
        name, _, scale = folder.name.rpartition("-")
        key = name if name in names and scale in SCALES else folder.name
        if files := sorted(folder.rglob("table.json")):
            rendered.setdefault(key, []).extend(files)
    return [
        _experiment(name, experiments / name, rendered[name], planned.get(name))
        for name in sorted(rendered, key=_natural)
    ]


def _experiment(name: str, folder: Path, rendered: list[Path], planned: Planned | None) -> Experiment:
    problems = [planned.problem] if planned is not None and planned.problem else []
    results = _results(rendered, False, problems)
    results += _results(sorted((folder / "results").rglob("table.json")), True, problems)
    results.sort(key=_order)
    distinct: list[Result] = []
    for result in results:
        if all(result.table != other.table for other in distinct):
            distinct.append(result)
    title = planned.title if planned is not None else ""
    return Experiment(
        name=name,
        title=title or (distinct[0].table.title if distinct else name),
        intro=planned.intro if planned is not None else "",
        readme=_read(folder / "README.md"),
        planned=planned,
        results=distinct,
        other=[f for f in sorted((folder / "results").rglob("*.md")) if f.name != "table.md"],
        problems=problems,
    )


def _results(files: Iterable[Path], committed: bool, problems: list[str]) -> list[Result]:
    results = []
    for file in files:
        try:
            table = Table.from_json(file.read_text(encoding="utf-8"))
        except (LabError, OSError, UnicodeDecodeError) as error:
            problems.append(f"{file}: {error}")
            continue
        try:
            curves = read_curves(file.with_name("curves.json"))
        except LabError as error:
            curves = []
            problems.append(str(error))
        results.append(Result(table, file, _date(file, committed), committed, curves))
    return results


def _order(result: Result) -> tuple[bool, bool, int, float]:
    scale = result.table.caption.scale
    size = SCALES.index(scale) if scale in SCALES else -1
    written = 0.0 if result.committed else result.file.stat().st_mtime
    return result.measured == 0, result.committed, -size if result.committed else 0, -written


def _date(file: Path, committed: bool) -> str:
    """Day of a file's last commit: a clone gives all files the time of cloning. Else the day it was written."""
    if committed:
        command = ["git", "log", "-1", "--format=%cs", "--", file.name]
        try:
            done = subprocess.run(
                command, cwd=file.parent, capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            pass
        else:
            if done.returncode == 0 and done.stdout.strip():
                return done.stdout.strip()
    return datetime.fromtimestamp(file.stat().st_mtime, UTC).date().isoformat()


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part
    ]
