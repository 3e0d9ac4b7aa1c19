"""The table at the end of a multirun: what was varied against what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def text(notes: Sequence[Mapping[str, Any]], score: str, more_is_better: bool) -> str:
    """For people: mean ± sd over seeds of each combination, the best marked; a grid where two settings were varied.

    Args:
        notes: of each job its "overrides" (as typed) and its "score", which failed jobs lack.
        score: what the score is called.
        more_is_better: its direction.
    """
    import pandas as pd

    settings = [dict(_split(word) for word in note["overrides"]) for note in notes]
    frame = pd.DataFrame(settings).fillna("")
    varied = [name for name in frame.columns if frame[name].nunique() > 1]
    keys = [name for name in varied if name.rpartition(".")[2] != "seed"]
    frame = frame[varied].assign(score=[note.get("score") for note in notes]).dropna(subset="score")
    if frame.empty or not varied:
        return ""
    groups = frame.groupby(keys, sort=False) if keys else frame.groupby(lambda _: "all seeds")
    means = groups["score"].agg(["mean", "std", "count"])
    best = means["mean"].idxmax() if more_is_better else means["mean"].idxmin()
    cells = {index: _cell(row, index == best) for index, row in means.iterrows()}
    shown = pd.Series(cells, name=score)
    if keys:
        shown.index = means.index
    seeds = "mean ± sd over seeds; " if means["count"].max() > 1 else ""
    title = f"{score} ({seeds}* = best of {len(means)})"
    if len(keys) == 2:
        grid = shown.unstack().reindex(index=frame[keys[0]].unique(), columns=frame[keys[1]].unique())
        return f"{title}\n{grid.fillna('–').to_string()}"
    order = means["mean"].sort_values(ascending=not more_is_better).index
    listed = shown.loc[order].reset_index()
    return f"{title}\n{listed.to_string(index=False, header=[*(keys or ['']), score])}"


def _split(word: str) -> tuple[str, str]:
    key, _, value = word.lstrip("+~").partition("=")
    return key, value


def _cell(row: Any, best: bool) -> str:
    spread = f" ± {row['std']:.4g}" if row["count"] > 1 else ""
    return f"{row['mean']:.4g}{spread}{' *' if best else ''}"
