"""Interactions and items as checked tables, and splits of them that do not leak. Rows are never split at random."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from minilm_lab.errors import LabError

log = logging.getLogger(__name__)
Matrix = NDArray[np.bool_]
EARLIEST, LATEST = pd.Timestamp("1990-01-01"), pd.Timestamp("2100-01-01")
"""Interactions outside are timestamps in another unit."""


@dataclass(frozen=True)
class Interactions:
    """Who had what, when: one row a (user, item), the first time of it, sorted by time, user, item."""

    rows: pd.DataFrame
    """``user``, ``item``: int64 rows of ``users``, ``items``; ``time``: seconds since 1970, int64."""
    users: list[object]
    """The ids of the users, in order."""
    items: pd.DataFrame
    """``id``, ``text``, ``date`` (datetime64, may be missing), in order of the ids."""

    def matrix(self, rows: pd.DataFrame) -> Matrix:
        """(users, items): whether a row says so."""
        had = np.zeros((len(self.users), len(self.items)), dtype=bool)
        had[rows["user"], rows["item"]] = True
        return had


@dataclass(frozen=True)
class Split:
    """What may be learned from, and what is judged. All (users, items) or (items,)."""

    train: Matrix
    """(users, items) known interactions: histories and all that is trained on."""
    test: Matrix
    """(users, items) positives; none of them is in ``train``."""
    candidates: Matrix
    """(users, items) what is ranked for whom."""


def read(interactions: pd.DataFrame, items: pd.DataFrame) -> Interactions:
    """Check and join ``user, item, time`` with ``id, text, date``.

    Times: seconds since 1970 or datetimes. Repeated (user, item) pairs collapse to their first; interactions with items
    that have no text are left out; both are counted in a warning.

    LabError: columns that are missing, missing cells, items that stand twice or in no table, times in another unit, no
    row left.
    """
    _columns(interactions, "interactions", ("user", "item", "time"))
    _columns(items, "items", ("id", "text", "date"))
    for name in ("user", "item", "time"):
        if (empty := int(interactions[name].isna().sum())) > 0:
            raise LabError(f"interactions: column '{name}' is empty in {empty} rows.")
    if (twice := int(items["id"].duplicated().sum())) > 0:
        raise LabError(f"items: column 'id' names {twice} items more than once.")
    if (unknown := int((~interactions["item"].isin(items["id"])).sum())) > 0:
        raise LabError(
            f"interactions: column 'item' of {unknown} rows names items that the table of items lacks."
        )
    items = items[["id", "text", "date"]].assign(date=pd.to_datetime(items["date"]))
    text = items["text"].fillna("").astype(str).str.strip()
    items = items.assign(text=text)[text != ""].sort_values("id").reset_index(drop=True)
    rows = interactions[["user", "item"]].assign(time=_seconds(interactions["time"]))
    with_text = rows[rows["item"].isin(items["id"])]
    if (gone := len(rows) - len(with_text)) > 0:
        log.warning("%d of %d interactions are with items that have no text: left out", gone, len(rows))
    rows = with_text.sort_values(["time", "user", "item"], kind="stable")
    first = rows.drop_duplicates(["user", "item"])
    if (repeats := len(rows) - len(first)) > 0:
        log.warning(
            "%d of %d interactions repeat a pair of user and item: the first counts", repeats, len(rows)
        )
    if first.empty:
        raise LabError("interactions: no row is left whose item has a text.")
    users = sorted(first["user"].unique())
    numbers = pd.Series(np.arange(len(items)), index=items["id"])
    first = first.assign(
        user=np.searchsorted(np.asarray(users), first["user"]).astype(np.int64),
        item=numbers.loc[first["item"]].to_numpy(np.int64),
    )
    return Interactions(first.reset_index(drop=True), list(users), items)


def released_after(data: Interactions, date: str) -> Split:
    """Items from ``date`` on are ranked for everybody with a history of older ones. Nothing of a new item is trained on.

    LabError: items without date, no item or no positive on one side.
    """
    new = _dates(data) >= np.datetime64(pd.Timestamp(date))
    had = data.matrix(data.rows)
    return _checked(had & ~new, had & new, np.broadcast_to(new, had.shape), f"released_after={date}")


def rolling(data: Interactions, date: str, *, months: int = 12, history: int = 5) -> Split:
    """Train on what happened before ``date``; rank what is released within ``months`` after it, for users with
    ``history`` interactions before it.

    A positive is any later interaction with such an item. Users with less history are out: they have no positives.
    """
    start = pd.Timestamp(date)
    end = start + pd.DateOffset(months=months)
    dates = _dates(data)
    new = (dates >= np.datetime64(start)) & (dates < np.datetime64(end))
    past = data.rows["time"] < int(start.timestamp())
    train, later = data.matrix(data.rows[past]), data.matrix(data.rows[~past])
    if (early := int(train[:, new].sum())) > 0:
        log.warning("%d interactions are older than their item's release: not trained on, not judged", early)
    candidates = np.broadcast_to(new, train.shape) & ~train
    enough: Matrix = np.asarray(train.sum(axis=1) >= history)
    return _checked(train & ~new, later & candidates & enough[:, None], candidates, f"date={date}")


def in_matrix(data: Interactions, share: float = 0.2) -> Split:
    """The last ``share`` of each user's interactions, at least one; users with one have none to judge.

    Times of different users overlap, so what others do later is trained on: it answers no question about new items.
    """
    if not 0 < share < 1:
        raise LabError(f"share={share} must lie between 0 and 1.")
    groups = data.rows.groupby("user")
    order, count = groups.cumcount(), groups["item"].transform("size")
    last = order >= count - np.maximum(1, np.floor(share * count)).astype(int)
    last &= count > 1
    train = data.matrix(data.rows[~last])
    return _checked(train, data.matrix(data.rows[last]), ~train, f"share={share}")


def _checked(train: Matrix, test: Matrix, candidates: Matrix, setting: str) -> Split:
    for what, there in (("to train on", train), ("in the test period", test)):
        if not there.any():
            raise LabError(f"{setting}: no interaction is {what}; choose another value.")
    judged = test.any(axis=1)
    test = test & np.asarray(train.any(axis=1))[:, None]
    if (new := int(judged.sum() - test.any(axis=1).sum())) > 0:
        log.warning("%d users have positives but no history in training: not judged", new)
    if not test.any():
        raise LabError(f"{setting}: no user with a positive has a history; choose another value.")
    return Split(train, test, candidates)


def _dates(data: Interactions) -> NDArray[np.datetime64]:
    if (empty := int(data.items["date"].isna().sum())) > 0:
        raise LabError(
            f"items: column 'date' is empty in {empty} of {len(data.items)} items; a dated split needs all: fill or drop."
        )
    dates: NDArray[np.datetime64] = data.items["date"].to_numpy("datetime64[ns]")
    return dates


def _columns(table: pd.DataFrame, name: str, wanted: tuple[str, ...]) -> None:
    if missing := [column for column in wanted if column not in table]:
        raise LabError(
            f"{name}: column {missing[0]!r} is missing; there are: {', '.join(map(str, table.columns))}."
        )


def _seconds(times: pd.Series) -> pd.Series:
    """int64 seconds since 1970."""
    if pd.api.types.is_datetime64_any_dtype(times):
        return times.astype("datetime64[s]").astype("int64")
    if not pd.api.types.is_numeric_dtype(times):
        raise LabError(
            f"interactions: column 'time' is {times.dtype}; give seconds since 1970, or datetimes."
        )
    low, high = int(EARLIEST.timestamp()), int(LATEST.timestamp())
    if (outside := int((~times.between(low, high)).sum())) > 0:
        raise LabError(
            f"interactions: column 'time' of {outside} rows is no time from {EARLIEST.year} to {LATEST.year} in seconds "
            f"since 1970 (the largest is {times.max():.0f}): milliseconds?"
        )
    return times.astype("int64")
