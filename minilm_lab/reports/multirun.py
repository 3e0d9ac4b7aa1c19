"""The table at the end of a multirun: what was varied against what came out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

#: Fewer trials of a search say nothing of what decided.
TRIALS = 8


def text(notes: Sequence[Mapping[str, Any]], score: str, more_is_better: bool) -> str:
    """For people: mean ± sd over seeds of each combination, the best marked; a grid of two
    settings that were crossed; of a search what decided.

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
    # A search draws few of the combinations that its values make.
    grid = 2 * len(frame[keys].drop_duplicates()) > math.prod(frame[keys].nunique())
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
    if len(keys) == 2 and grid:
        table = shown.unstack().reindex(index=frame[keys[0]].unique(), columns=frame[keys[1]].unique())
        return f"{title}\n{table.fillna('–').to_string()}"
    order = means["mean"].sort_values(ascending=not more_is_better).index
    listed = shown.loc[order].reset_index()
    lines = [title, listed.to_string(index=False, header=[*(keys or [""]), score])]
    if not grid and (mattered := importance(frame[keys], frame["score"])):
        shares = ", ".join(f"{name} {share:.0%}" for name, share in mattered.items())
        lines.append(f"what decided (random forest, {len(frame)} trials): {shares}")
    return "\n".join(lines)


def importance(settings: pd.DataFrame, scores: pd.Series) -> dict[str, float]:
    """Setting -> its share in what decided a search: how much worse a random forest fits the scores with its values permuted
    (Breiman 2001). The largest first; empty for fewer than `TRIALS` trials or one setting.

    settings: a column a setting, a row a trial, as typed; scores: of the same rows.
    """
    if len(settings.drop_duplicates()) < TRIALS or settings.shape[1] < 2 or scores.nunique() < 2:
        return {}
    import pandas as pd
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    numbers = settings.apply(pd.to_numeric, errors="coerce")
    codes = settings.apply(lambda typed: pd.factorize(typed, sort=True)[0])
    encoded = numbers.where(numbers.notna().all(), codes).to_numpy(dtype=float)
    forest = RandomForestRegressor(100, random_state=0).fit(encoded, scores)
    found = permutation_importance(forest, encoded, scores, n_repeats=20, random_state=0)
    losses = found.importances_mean.clip(min=0)
    shares = dict(zip(map(str, settings), (losses / max(losses.sum(), 1e-12)).tolist(), strict=True))
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _split(word: str) -> tuple[str, str]:
    key, _, value = word.lstrip("+~").partition("=")
    return key, value


def _cell(row: Any, best: bool) -> str:
    spread = f" ± {row['std']:.4g}" if row["count"] > 1 else ""
    return f"{row['mean']:.4g}{spread}{' *' if best else ''}"
