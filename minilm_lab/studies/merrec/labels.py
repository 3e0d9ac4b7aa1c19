"""Click and like prediction: which events are asked about, what is to be foretold, and what may be known by then.

``event_type`` is what the released benchmark calls CTR: given that an event happened, is it a view, is it a like? Only one of
the two can be so, and no event says what was shown and passed over. ``session_action`` is likelier to serve somebody: given
a view, will the same item be liked, or put into the cart, offered for or bought, later in the session?
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minilm_lab.errors import LabError
from minilm_lab.studies.merrec.log import Ints, Log

LABELS = {"event_type": ("view", "like"), "session_action": ("like", "buy")}
"""Label → its tasks. ``buy``: cart, offer, purchase begun or made."""
VIEW, LIKE = 0, 1
FIELDS = ("item", "product", "c0", "c1", "c2", "brand", "condition", "place")
"""What is known of an event by number; besides the products and items before it in the session, price and title."""


@dataclass(frozen=True)
class Questions:
    """Events to ask about and the answers."""

    rows: Ints
    """(questions,) rows of the log."""
    answers: NDArray[np.float32]
    """(questions, tasks) 0 or 1."""
    late: NDArray[np.bool_]
    """(questions,) whether it belongs to the judged period."""
    facts: dict[str, int]


def ask(data: Log, label: str, start: int, end: int) -> Questions:
    """Questions of sessions that end before `start`, to learn from, and of those that begin from it and before `end`.

    Sessions across `start` are on neither side: their answers would tell of what comes later. They are counted.
    LabError: a side without questions, or where a task has one answer only.
    """
    opens = np.flatnonzero(np.r_[True, np.diff(data.session) != 0])
    sizes = np.diff(np.r_[opens, len(data.user)])
    begin = np.repeat(data.time[opens], sizes)
    last = np.repeat(np.maximum.reduceat(data.time, opens), sizes)
    early, late = last < start, (begin >= start) & (begin < end)
    if label == "event_type":
        rows = np.arange(len(data.user))
        answers = np.stack([data.kind == VIEW, data.kind == LIKE], axis=1)
    else:
        rows = np.flatnonzero(data.kind == VIEW)
        answers = np.stack([_later(data, data.kind == LIKE), _later(data, data.kind > LIKE)], axis=1)[rows]
    usable = (early | late)[rows]
    across = int(((begin < start) & ~early)[rows].sum())
    rows, answers = rows[usable], answers[usable].astype(np.float32)
    side = late[rows]
    for name, here in (("before evaluator.judged_from", ~side), ("in the judged period", side)):
        if not here.any():
            raise LabError(f"No event to ask about is {name}; choose another date.")
        for task, column in zip(LABELS[label], answers[here].T, strict=True):
            if column.min() == column.max():
                raise LabError(
                    f"task {task}: all {len(column)} answers {name} are alike; take more users or days."
                )
    facts = {
        "questions_to_learn": int((~side).sum()),
        "questions_judged": int(side.sum()),
        "questions_across_the_cut": across,
    }
    return Questions(rows, answers, side, facts)


def _later(data: Log, what: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(events,) whether the same item has such an event later in the same session."""
    # By session and item, in order of the log; the last such event of each pair is later than all rows before it.
    pair = data.session * (int(data.item.max()) + 1) + data.item
    distinct, number = np.unique(pair, return_inverse=True)
    last = np.full(len(distinct), -1, dtype=np.int64)
    at = np.flatnonzero(what)
    np.maximum.at(last, number[at], at)
    return np.asarray(last[number] > np.arange(len(pair)))


def fields(data: Log, rows: Ints, known: NDArray[np.bool_], back: int = 7) -> dict[str, NDArray[np.generic]]:
    """Columns for `rows`: `FIELDS` by number from 1 (0 = not known before the cut, or none), ``history`` and
    ``history_product`` (rows, back), ``price`` (log, float32), ``title`` (number), ``history_title`` (rows, back; −1 = none).

    Nothing of the event's kind is in it, nor of anything after it, nor the number of its session.
    """
    opens = np.flatnonzero(np.r_[True, np.diff(data.session) != 0])
    place = np.arange(len(data.user)) - np.repeat(opens, np.diff(np.r_[opens, len(data.user)]))
    item = data.item[rows]
    values: dict[str, NDArray[np.generic]] = {"item": np.where(known[item], item + 1, 0)}
    for name in ("product", "c0", "c1", "c2", "brand", "condition"):
        levels, number = np.unique(data.items[name], return_inverse=True)
        learned = np.zeros(len(levels), dtype=bool)
        learned[number[known]] = True
        values[name] = np.where(learned[number], number + 1, 0)[item]
    values["place"] = np.minimum(place[rows], 20)
    at = rows[:, None] - np.arange(back, 0, -1)
    there = np.arange(back, 0, -1) <= place[rows][:, None]
    before = data.item[np.maximum(at, 0)]
    values["history"] = np.where(there & known[before], before + 1, 0)
    products = np.unique(data.items["product"], return_inverse=True)[1]
    values["history_product"] = np.where(there, products[before] + 1, 0)
    values["price"] = np.log1p(data.items["price"][item].astype(np.float32))
    values["title"] = data.title_of[item]
    values["history_title"] = np.where(there, data.title_of[before], -1)
    return values
