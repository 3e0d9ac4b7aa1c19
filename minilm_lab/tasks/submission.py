"""Predictions in the format of the GLUE leaderboard: one TSV file a test set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FORMATS = ("numbers", "names")
"""How a class is written: the leaderboard takes numbers for CoLA, SST-2, MRPC, QQP and WNLI, and names for
MNLI, QNLI, RTE and AX."""


def tsv(
    predictions: Sequence[float] | np.ndarray, names: Sequence[str] | None, bounds: list[float] | None
) -> str:
    """The lines `index<TAB>prediction`, in the order of the test set, which the leaderboard counts from 0.

    predictions (examples,): class numbers where there are `names` to write them with or they are whole, or
    values, which are cut to `bounds` ([0, 5] for STS-B) and written with three decimals.
    """
    if names is not None:
        cells = [names[int(number)] for number in predictions]
    elif bounds is not None:
        cells = [f"{min(max(float(value), bounds[0]), bounds[1]):.3f}" for value in predictions]
    elif np.issubdtype(np.asarray(predictions).dtype, np.integer):
        cells = [str(int(number)) for number in predictions]
    else:
        cells = [f"{float(value):.3f}" for value in predictions]
    lines = [f"{index}\t{cell}" for index, cell in enumerate(cells)]
    return "\n".join(["index\tprediction", *lines]) + "\n"
