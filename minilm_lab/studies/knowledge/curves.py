"""What is found over a number of answers. Shapes: P prompts, N answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minilm_lab.studies.knowledge.gold_lists import GoldList
from minilm_lab.studies.knowledge.prompts import Reply

AT = (10, 20, 50, 100)


def flags(replies: Sequence[Sequence[Reply]], answers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """bool (P, N) each: right; right for the first time; a repetition of an answer, right or wrong, before it.

    A method that gave fewer answers has wrong ones behind.
    """
    right, fresh, again = (np.zeros((len(replies), answers), dtype=bool) for _ in range(3))
    for row, some in enumerate(replies):
        seen: set[object] = set()
        for place, reply in enumerate(some[:answers]):
            right[row, place] = reply.gold is not None
            again[row, place] = reply.key in seen
            fresh[row, place] = right[row, place] and not again[row, place]
            seen.add(reply.key)
    return right, fresh, again


def scores(replies: Sequence[Sequence[Reply]], golds: Sequence[GoldList], answers: int) -> dict[str, float]:
    """Means over prompts; shares × 100.

    distinct: right answers, each once however often and by whatever token it came; distinct_<n>: after n answers. recall:
    distinct of what could be right in as many answers. running_precision: the mean over n of the share of right answers
    among the first n, repetitions included, which the paper's code calls MAP. average_precision: that of information
    retrieval, repetitions wrong, over as many right answers as could be given. area: the mean of distinct_<n> over n.
    """
    right, fresh, again = flags(replies, answers)
    found, places = fresh.cumsum(axis=1), np.arange(1, answers + 1)
    most = np.minimum([len(gold.answers) for gold in golds], answers)
    unended = [[not reply.ended for reply in some] for some in replies]
    return {
        "distinct": float(found[:, -1].mean()),
        **{f"distinct_{n}": float(found[:, n - 1].mean()) for n in AT if n <= answers},
        "precision": 100 * float(right.mean()),
        "recall": 100 * float((found[:, -1] / most).mean()),
        "duplicates": 100 * float(again.mean()),
        "unfinished": 100 * float(np.mean([np.mean(some) if some else 1.0 for some in unended])),
        "running_precision": 100 * float((right.cumsum(axis=1) / places).mean()),
        "average_precision": 100 * float(((fresh * found / places).sum(axis=1) / most).mean()),
        "area": float(found.mean()),
    }
