"""The prepared log as arrays, cut in time: what may be learned from, and which events are to be foretold."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from minilm_lab.errors import LabError

log = logging.getLogger(__name__)
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Log:
    """(events,) int64 each, by user, session and time; see `prepare`."""

    user: Ints
    item: Ints
    session: Ints
    time: Ints
    kind: Ints
    items: dict[str, NDArray[np.generic]]
    """(items,) each: title, c0, c1, c2, brand, product, condition, price."""
    titles: list[str]

    @property
    def title_of(self) -> Ints:
        """(items,) number of each item's title."""
        return self.items["title"].astype(np.int64)


def read(folder: Path) -> Log:
    """A prepared folder, whole, in memory: 40 bytes an event."""
    table = pq.read_table(folder / "events")
    columns = {
        name: table[name].to_numpy().astype(np.int64) for name in ("user", "item", "session", "time", "kind")
    }
    # Sessions of a user may overlap in time: each in one piece, in order of their first events.
    begin = np.full(int(columns["session"].max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(begin, columns["session"], columns["time"])
    order = np.lexsort((columns["time"], columns["session"], begin[columns["session"]], columns["user"]))
    if (np.diff(order) < 0).any():
        columns = {name: values[order] for name, values in columns.items()}
    stock = pq.read_table(folder / "items.parquet")
    items = {name: stock[name].to_numpy() for name in stock.column_names}
    return Log(**columns, items=items, titles=pq.read_table(folder / "titles.parquet")["name"].to_pylist())


@dataclass(frozen=True)
class Examples:
    """Events to be foretold: the events of a session before each of them, and it."""

    history: Ints
    """(examples, length) items, the latest last, −1 in front where there are fewer."""
    target: Ints
    """(examples,) the next item."""
    user: Ints
    """(examples,) for intervals over users."""
    fresh: NDArray[np.bool_]
    """(examples,) whether the target does not stand in the session so far."""
    cold: NDArray[np.bool_]
    """(examples,) whether no training event has the target."""


@dataclass(frozen=True)
class Cut:
    """A log cut at two points of time."""

    train: Ints
    """Row numbers of events before the cut, in sessions of two or more such events."""
    bounds: Ints
    """(sessions + 1,) where each training session begins within ``train``."""
    judged: Examples
    start: int
    """Seconds since 1970: nothing from here on is learned from."""
    known: NDArray[np.bool_]
    """(items,) whether an event before the cut has it."""
    facts: dict[str, int]


def cut(data: Log, start: int, end: int, *, length: int, most: int, seed: int = 0) -> Cut:
    """Learn from events before `start`, foretell events of sessions that begin from `start` and before `end`.

    Nothing from `start` on is learned from. A session that begins before it and goes on is cut there: what comes after is
    neither learned nor judged, and counted. most: events to judge; more of them are thinned by whole users, drawn by seed.

    LabError: a side without sessions of two events.
    """
    first = np.r_[True, np.diff(data.session) != 0]
    opens = np.flatnonzero(first)
    sizes = np.diff(np.r_[opens, len(data.user)])
    began = np.repeat(data.time[opens], sizes)
    place = np.arange(len(data.user)) - np.repeat(opens, sizes)
    early = data.time < start
    known = np.zeros(len(data.items["title"]), dtype=bool)
    known[data.item[early]] = True
    train = np.flatnonzero(early)
    many = np.bincount(data.session[train], minlength=int(data.session.max()) + 1)
    train = train[many[data.session[train]] > 1]
    if not len(train):
        raise LabError("No session before the cut has two events: choose a later date.")
    bounds = np.flatnonzero(np.r_[True, np.diff(data.session[train]) != 0, True])
    later = (began >= start) & (began < end)
    wanted = np.flatnonzero(later & (place > 0))
    if not len(wanted):
        raise LabError(
            "The judged period has no session of two events (empty?): choose dates within "
            f"{np.datetime64(int(data.time.min()), 's')} and {np.datetime64(int(data.time.max()), 's')}."
        )
    rows = _thinned(wanted, data.user, most, seed)
    judged = _examples(data, rows, place, known, length)
    facts = {
        "train_events": len(train),
        "train_sessions": len(bounds) - 1,
        "single_train_sessions": int((many == 1).sum()),
        "events_of_sessions_across_the_cut": int(((began < start) & ~early).sum()),
        "events_to_judge": len(wanted),
        "judged_events": len(rows),
        "judged_users": len(np.unique(data.user[rows])),
        "new_users": len(np.setdiff1d(data.user[rows], data.user[early])),
        "cold_targets": int(judged.cold.sum()),
        "fresh_targets": int(judged.fresh.sum()),
        "items": len(known),
    }
    return Cut(train, bounds, judged, start, known, facts)


def _thinned(rows: Ints, user: Ints, most: int, seed: int) -> Ints:
    """Whole users in a drawn order until `most` rows are there; of a user too many for that, the first."""
    if len(rows) <= most:
        return rows
    people, inverse, counts = np.unique(user[rows], return_inverse=True, return_counts=True)
    order = np.random.default_rng([seed, 7]).permutation(len(people))
    before = np.empty(len(people), dtype=np.int64)
    before[order] = np.cumsum(counts[order]) - counts[order]
    return np.sort(rows[np.argsort(before[inverse], kind="stable")[:most]])


def _examples(data: Log, rows: Ints, place: Ints, known: NDArray[np.bool_], length: int) -> Examples:
    back = np.arange(length, 0, -1)
    at = rows[:, None] - back
    there = back <= place[rows][:, None]
    history = np.where(there, data.item[np.maximum(at, 0)], -1)
    target = data.item[rows]
    # The whole session so far counts, also what is older than `length`.
    fresh = ~(history == target[:, None]).any(axis=1)
    for row in np.flatnonzero(fresh & (place[rows] > length)):
        begin = rows[row] - place[rows[row]]
        fresh[row] = target[row] not in data.item[begin : rows[row]]
    return Examples(history, target, data.user[rows], fresh, ~known[target])
