"""The fine-tuning setting of a cell: each of a grid is run with every seed, the best mean on the dev set is taken.

As in the papers (MiniLM, appendix B: learning rates × epochs, chosen on the dev set, whose score is reported): every row of
a table, controls and teacher too, gets the same grid.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from minilm_lab.commands.tables.planning import CellPlan
from minilm_lab.reports import cells, records, table
from minilm_lab.runs.graph import Run


@dataclass(frozen=True)
class Chosen:
    """What a cell takes."""

    cell: table.Cell
    records: list[records.Record]
    """The runs behind it."""
    tried: int
    """Settings of which every seed is there."""


def best(plan: CellPlan, done: Mapping[str, records.Record]) -> Chosen:
    """The setting with the best mean score over the seeds, the first of several; of those whose seeds are all there.

    The score is the task's own, on its dev set, whatever metric or test set the column shows: nothing is chosen on a test
    set, and the columns of one task show one model.

    done: identity -> completed record.
    """
    tried = [_records(runs, done) for runs in plan.settings.values()]
    if len(tried) == 1:
        return Chosen(cells.score_cell(tried[0], plan.column.metric), tried[0], 1)
    wanted = [len(runs) for runs in plan.settings.values()]
    complete = [i for i, behind in enumerate(tried) if len(behind) == wanted[i]]
    if not complete:
        return Chosen(table.Cell(), [], 0)
    taken = max(complete, key=lambda i: _rank(tried[i]))
    cell = cells.score_cell(tried[taken], plan.column.metric)
    return Chosen(replace(cell, setting=" ".join(list(plan.settings)[taken])), tried[taken], len(complete))


def _records(runs: Sequence[Run], done: Mapping[str, records.Record]) -> list[records.Record]:
    return [done[run.identity] for run in runs if run.identity in done]


def _rank(runs: Sequence[records.Record]) -> float:
    values = cells.score_cell(runs).values
    return statistics.fmean(values) if values and all(map(math.isfinite, values)) else -math.inf


def selection(planned: Sequence[CellPlan]) -> str:
    """For the caption: how many settings each cell was chosen of; empty where nothing was chosen."""
    numbers = sorted({len(plan.settings) for plan in planned} - {1})
    if not numbers:
        return ""
    names = {
        word.partition("=")[0]: None for plan in planned for setting in plan.settings for word in setting
    }
    count = " or ".join(map(str, numbers))
    return (
        f"in each cell the best of {count} settings ({' × '.join(names)}) by the mean score over the seeds on the dev set, "
        "for every row alike (so a dev score shown here is that of a choice made on it, as in the papers)"
    )


def incomplete(planned: Sequence[CellPlan], chosen: Sequence[Chosen]) -> list[str]:
    """For the caption: the cells that were not chosen of all their settings."""
    return [
        f"{plan.row.title}, {plan.column.title}: {choice.tried} of {len(plan.settings)} settings are there."
        for plan, choice in zip(planned, chosen, strict=True)
        if len(plan.settings) > 1 and choice.tried < len(plan.settings)
    ]


def choices_csv(planned: Sequence[CellPlan], done: Mapping[str, records.Record]) -> str:
    """Every setting of every cell with its score; empty where nothing was chosen."""
    import pandas as pd

    if not selection(planned):
        return ""
    lines = []
    for plan in planned:
        taken = best(plan, done).cell.setting
        for setting, runs in plan.settings.items():
            behind, words = _records(runs, done), " ".join(setting)
            shown, dev = (
                pd.Series(cells.score_cell(behind, metric).values, dtype=float)
                for metric in (plan.column.metric, None)
            )
            lines.append(
                {
                    "row": plan.row.key,
                    "column": plan.column.key,
                    "setting": words,
                    "mean": shown.mean(skipna=False),
                    "sd": shown.std(skipna=False),
                    "n": len(shown),
                    "dev score": dev.mean(skipna=False),
                    "chosen": int(words == taken),
                }
            )
    return str(pd.DataFrame(lines).to_csv(index=False, lineterminator="\n"))
