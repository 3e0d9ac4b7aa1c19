"""How every picture is drawn: matplotlib's style, and pictures as inline SVG (in the page's colours) or as PNG."""

from __future__ import annotations

import hashlib
import io
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from minilm_lab.reports.text import one_line

LineStyle = Literal["-", "--", ":"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9")
"""Series colours, told apart by the colour-blind (Okabe and Ito) and readable on white and on near-black."""
_STYLES: tuple[LineStyle, ...] = ("-", "--", ":")

INK, FAINT = "#1d2127", "#9aa1ab"
"""Drawn in these two, which in the SVG are replaced by the colours of the page around it."""
CONTROL = "#868d97"
"""Colour of rows that are there to compare with."""
WIDTH = 4.3
"""Inches: text of 10 points stays legible when the plot is as wide as a phone."""

_RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "minilm-lab",
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "grid.alpha": 0.3,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def series_style(index: int) -> tuple[str, LineStyle]:
    """Return colour and line style of a series; they repeat together only after 18 series."""
    return COLOURS[index % len(COLOURS)], _STYLES[index // len(COLOURS) % len(_STYLES)]


@contextmanager
def style() -> Iterator[None]:
    """Draw with the lab's settings within."""
    # The user's own matplotlib settings must not change a committed picture.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)  # type: ignore[arg-type]
        yield


@dataclass(frozen=True)
class Picture:
    """A figure (drawn within `style`) with what it shows in words."""

    figure: Figure
    title: str
    words: str

    def svg(self) -> str:
        """Return an SVG element that fills its box, with title and words as its text alternative.

        Colours `INK` and `FAINT` become those of the page around it, in light and in dark.
        """
        buffer = io.StringIO()
        FigureCanvasSVG(self.figure)
        with style():
            self.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        svg = buffer.getvalue()
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
        # Width and height go, so that the page sets the size; the view box keeps the proportions.
        head, rest = svg.split(">", 1)
        head = re.sub(r'\s(width|height)="[^"]*"', "", head)
        svg = f'{head} role="img" aria-label="{escape(one_line(f"{self.title}. {self.words}"))}">{rest}'
        svg = svg.replace(INK, "currentColor").replace(FAINT, "var(--faint, #888888)")
        svg = _own_ids(svg)
        # Text takes the font of the page.
        return re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg).strip()

    def png(self, path: str | Path) -> Path:
        """Write the figure on white; return its path."""
        path = Path(path)
        FigureCanvasAgg(self.figure)
        with style():
            self.figure.savefig(path, format="png", dpi=160, facecolor="white")
        return path


def _own_ids(svg: str) -> str:
    """Give the ids that the SVG uses a prefix of its own and drop the others: ids are the whole page's."""
    prefix = f"svg{hashlib.sha256(svg.encode()).hexdigest()[:8]}-"
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", svg)
    return re.sub(r'(url\(|href=")#', rf"\1#{prefix}", svg)


def wrapped(title: str, width: int = 22) -> str:
    """Return `title` on at most two lines of `width` characters."""
    # Names of rows often differ only at their end: two lines before anything is cut.
    return "\n".join(
        textwrap.wrap(one_line(title), width, max_lines=2, placeholder="…", break_on_hyphens=False)
    )
