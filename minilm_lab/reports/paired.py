"""Differences between rows paired by seed, with bootstrap intervals: what the numbers of a table can tell.

Runs of one seed share the order of samples and the start of the head, so that the difference of two rows varies less
from seed to seed than either of them. An order is claimed where the interval of the mean difference leaves 0 out; one
of fewer than three seeds is never. Three differences of one sign suffice for three seeds, and chance gives that once
in four times: a claim that matters needs five seeds or more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

CONTROL, ABOVE = "ᶜ", "ᵃ"
"""Marks of a value that differs from the row's control, or from the row above."""
NAMES = {CONTROL: "the control", ABOVE: "the row above"}
LEAST = 3
"""Seeds that two rows must have in common."""
LEVEL = 0.95


def differences(values: pd.DataFrame, pairs: Sequence[tuple[str, str, str]]) -> pd.DataFrame:
    """Return a line for each pair and column with at least three seeds in common.

    Its columns: `row`, `other`, `mark`, `column`, `n` (seeds), `mean` (row − other), `low` and `high` (its interval),
    `differs` (whether that leaves 0 out).

    Args:
        values: `row`, `column`, `seed`, `value`, a line a value; a value without seed is paired with none.
        pairs: (row, other row, mark), the rows by their keys.
    """
    import pandas as pd

    by_seed = values.dropna().set_index(["row", "column", "seed"])["value"]
    lines = []
    for row, other, mark in pairs:
        rows = by_seed.index.get_level_values("row")
        if row in rows and other in rows:
            paired = (by_seed.loc[row] - by_seed.loc[other]).dropna()
            for column, part in paired.groupby("column", sort=False):
                if len(part) >= LEAST:
                    low, high = interval(part.to_list())
                    place = (row, other, mark, column, len(part), part.mean())
                    lines.append((*place, low, high, low > 0 or high < 0))
    names = ["row", "other", "mark", "column", "n", "mean", "low", "high", "differs"]
    return pd.DataFrame(lines, columns=names).astype({"differs": bool})


def interval(values: Sequence[float], of: Sequence[float] | None = None) -> tuple[float, float]:
    """Return the 95 % interval of the mean of two values or more: expanded percentiles of 9,999 resamplings.

    With `of`, values of the same seeds, it is that of the mean's share of their mean, in percent.
    Percentiles alone are too narrow for few values; they are taken further out by what Student's t is wider than a
    normal distribution (Hesterberg 2015, What Teachers Should Know About the Bootstrap, section 5.3).
    """
    import numpy as np
    from scipy import stats

    def share(ours: np.ndarray, theirs: np.ndarray, axis: int = -1) -> np.ndarray:
        return 100 * ours.mean(axis) / theirs.mean(axis)

    n = len(values)
    reach = math.sqrt(n / (n - 1)) * stats.t.ppf((1 + LEVEL) / 2, n - 1)
    resampled = stats.bootstrap(
        (list(values),) if of is None else (list(values), list(of)),
        np.mean if of is None else share,
        paired=of is not None,
        confidence_level=1 - 2 * stats.norm.sf(reach),
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(resampled.confidence_interval.low), float(resampled.confidence_interval.high)


def in_words(differing: pd.DataFrame, titles: dict[str, str]) -> str:
    """Return what the differences of one column say, as one sentence without its full stop; `""` of none.

    Args:
        differing: lines of `differences` of one column.
        titles: of the rows, by their keys.
    """
    parts = []
    for mark, group in differing.groupby("mark", sort=False):
        other = NAMES[str(mark)]
        for word, lines in (("above", group[group["low"] > 0]), ("below", group[group["high"] < 0])):
            rows = [_row(titles[line.row], line.mean, line.low, line.high) for line in lines.itertuples()]
            parts += [f"{word} {other}: {', '.join(rows)}"] if rows else []
        rows = [titles[row] for row in group[~group["differs"]]["row"]]
        parts += [f"not told apart from {other}: {', '.join(rows)}"] if rows else []
    return "; ".join(parts)


def _row(title: str, *differences: float) -> str:
    mean, *ends = map(abs, differences)
    return f"{title} by {mean:.1f} ({min(ends):.1f} to {max(ends):.1f})"
