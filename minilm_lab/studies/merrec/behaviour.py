"""What generated users do: how many events and sessions, when, with which items, of which kind. Numbers in, arrays out.

A user has tastes (clusters of the catalogue: a category and a theme). A session is for one of them; most of its new items
come from there. An event repeats an item that the user had a little before, or brings a new one; likes and purchases are
mostly repeats, and more often of items that the session's taste is for: that is the signal, put in by construction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minilm_lab.studies.merrec.catalogue import Catalogue, hashed
from minilm_lab.studies.merrec.published import PUBLISHED
from minilm_lab.studies.merrec.quantiles import Quantiles, spread

Ints = NDArray[np.int64]
EVENTS_A_USER = Quantiles(
    (
        (0, 1),
        (0.1331, 2),
        (0.3136, 5),
        (0.5, 12.5),
        (0.8, 70),
        (0.95, 275.5),
        (0.99, 791.5),
        (1 - 1 / 2.77e6, 29597),
    )
)
EVENTS_A_SESSION = Quantiles(
    ((0, 1), (0.36, 2), (0.5, 3), (0.8, 7), (0.95, 20), (0.99, 44), (1 - 1e-7, 1500))
)
"""Before sessions are cut where a user's events end; after it they have the published percentiles."""
REPEATS = PUBLISHED["repeats"].value / 100
SHARES = np.asarray(
    [PUBLISHED[f"{name}_share"].value / 100 for name in ("view", "like", "cart", "offer", "buy_start", "buy")]
)
FIRST_SIGHT = 0.03
"""Share of new items whose first event is no view."""
TO_TASTE, OF_TASTE = 0.85, 0.75
"""Share of sessions for a taste of the user's; of new items from the session's cluster."""
FAVOUR = 3.0
"""How much likelier a repeated item of the taste is liked or bought than another."""
DAYS = 30
GAP = Quantiles(((0.0, 1.0), (0.1, 4.0), (0.5, 22.0), (0.9, 150.0), (1.0, 3000.0)))
"""Seconds between two events of a session."""


@dataclass(frozen=True)
class Events:
    """(events,) int64 arrays, users in order, each user's events by time."""

    user: Ints
    session: Ints
    """Number within the shard."""
    sequence: Ints
    """Number within the user: some sessions in a row."""
    seconds: Ints
    """Since the month's first second."""
    item: Ints
    kind: Ints
    """Index of schema.EVENTS."""


def events(stock: Catalogue, users: int, draw: np.random.Generator) -> Events:
    """Events of users 0 … users − 1."""
    counts = EVENTS_A_USER.counts(spread(users, draw))
    user = np.repeat(np.arange(users), counts)
    ends = np.cumsum(counts)
    total = int(ends[-1])
    session = _sessions(ends, draw)
    starts = np.flatnonzero(np.r_[True, session[1:] != session[:-1]])
    item, fits = _items(stock, user, session, starts, draw)
    seconds = _seconds(user[starts], session, starts, draw)
    # A sequence is some sessions of a user in a row, 3.3 on average (227 M sessions in 69 M sequences).
    breaks = np.zeros(total, dtype=np.int64)
    breaks[starts] = draw.random(len(starts)) < 1 / 3.3
    first = np.r_[0, ends[:-1]]
    breaks[first] = 0
    running = np.cumsum(breaks)
    sequence = running - np.repeat(running[first], counts)
    repeated, item = _repeated(item, user, np.arange(total) - np.repeat(first, counts), draw)
    kind = _kinds(repeated, fits, draw)
    return Events(user, session, sequence, seconds, item, kind)


def _sessions(ends: Ints, draw: np.random.Generator) -> Ints:
    """Number of each event's session: a stream of lengths, cut where a user ends."""
    total = int(ends[-1])
    cuts = np.cumsum(EVENTS_A_SESSION.counts(spread(total // 4 + 64, draw)))
    bounds = np.union1d(cuts[cuts < total], ends)
    lengths = np.diff(np.r_[0, bounds])
    # Where a user ends mostly long sessions are cut: a user's lengths are shuffled, or the first and last would be long.
    of_user = np.searchsorted(ends, bounds)
    lengths = lengths[np.lexsort((draw.random(len(lengths)), of_user))]
    return np.repeat(np.arange(len(bounds)), lengths)


def _items(
    stock: Catalogue, user: Ints, session: Ints, starts: Ints, draw: np.random.Generator
) -> tuple[Ints, NDArray[np.bool_]]:
    """An item for every event as if none repeated, and whether it is from the session's cluster."""
    of_user = user[starts]
    sessions = np.bincount(of_user)[of_user]
    # The more a user does, the more tastes; the first are the strongest.
    tastes = 2 + sessions // 3
    which = np.floor(tastes * draw.random(len(starts)) ** 1.5).astype(np.int64)
    taste = stock.drawn(hashed(of_user * 100_003 + which, int(draw.integers(1 << 30)), "taste"))
    other = stock.drawn(draw.random(len(starts)))
    cluster = stock.cluster(np.where(draw.random(len(starts)) < TO_TASTE, taste, other))
    fits = draw.random(len(user)) < OF_TASTE
    uniform = draw.random(len(user))
    item = np.where(fits, stock.drawn(uniform, cluster[session]), stock.drawn(uniform))
    return item, fits


def _repeated(
    item: Ints, user: Ints, place: Ints, draw: np.random.Generator
) -> tuple[NDArray[np.bool_], Ints]:
    """Some events take the item of one a little before. Their share is set so that all repeats come to the published one."""
    total = len(item)
    back = draw.geometric(0.6, size=total)
    can = back <= place
    chance = draw.random(total)
    share = REPEATS
    for _ in range(6):  # new items that a user had by chance repeat too, the more the fewer are new
        again = can & (chance < share)
        source = np.where(again, np.arange(total) - back, np.arange(total))
        while (source[source] != source).any():
            source = source[source]
        taken = item[source]
        pairs = len(np.unique(user * np.int64(1 << 34) + taken))
        share = float(np.clip(share * REPEATS / max(1e-9, 1 - pairs / total), 0.0, 0.95))
    return again, taken


def _kinds(again: NDArray[np.bool_], fits: NDArray[np.bool_], draw: np.random.Generator) -> Ints:
    """View or something else, by whether it repeats an item and whether that is to the taste; shares as published."""
    acts = 1 - SHARES[0]
    chance = np.where(again, np.where(fits, FAVOUR, 1.0), 0.0)
    first = FIRST_SIGHT * (~again).mean()
    chance *= max(0.0, acts - first) / max(1e-9, chance.mean())
    chance[~again] = FIRST_SIGHT
    act = draw.random(len(again)) < np.minimum(1.0, chance)
    kind = np.zeros(len(again), dtype=np.int64)
    ladder = np.cumsum(SHARES[1:]) / SHARES[1:].sum()
    kind[act] = 1 + np.searchsorted(ladder[:-1], spread(int(act.sum()), draw), side="right")
    return kind


def _seconds(of_user: Ints, session: Ints, starts: Ints, draw: np.random.Generator) -> Ints:
    """Sessions begin anywhere in the month, in order within a user; events follow after gaps, sessions do not overlap."""
    # Days are filled by events, not by sessions: a day of a small month would else hang on its longest sessions.
    order = draw.permutation(len(starts))
    sizes = np.diff(np.r_[starts, len(session)])
    filled = np.empty(len(starts))
    filled[order] = (np.cumsum(sizes[order]) - sizes[order] / 2) / len(session)
    day = np.searchsorted(np.cumsum(_days())[:-1], filled, side="right")
    begin = (day + draw.random(len(starts)) * 0.94) * 86_400
    begin = begin[np.lexsort((begin, of_user))]
    gaps = GAP(draw.random(len(session)))
    gaps[starts] = 0
    run = np.cumsum(gaps)
    since = run - np.repeat(run[starts], np.diff(np.r_[starts, len(session)]))
    # A session begins a minute after the one before has ended, or later: the running maximum of what is left of its begin
    # when all earlier ones are taken off, user by user (a step of ten years lies between two users).
    lasts = since[np.r_[starts[1:], len(session)] - 1] + 60
    before = np.cumsum(lasts) - lasts
    first = np.flatnonzero(np.r_[True, of_user[1:] != of_user[:-1]])
    before -= np.repeat(before[first], np.diff(np.r_[first, len(of_user)]))
    step = of_user * 3e8
    begin = np.maximum.accumulate(begin - before + step) - step + before
    return np.minimum(np.floor(begin[session] + since), DAYS * 86_400 - 1).astype(np.int64)


def _days() -> NDArray[np.float64]:
    """Shares of 30 days, from the weakest published to the strongest, a wave a week."""
    low, high = PUBLISHED["per_day_min"].value, PUBLISHED["per_day_max"].value
    wave = (low + high) / 2 + (high - low) / 2 * np.sin(np.arange(DAYS) * 2 * np.pi / 7 + 0.2)
    return np.asarray(wave / wave.sum())
