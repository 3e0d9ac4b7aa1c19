"""What is published of MerRec, each number with how near a generated month must come to it.

May 2023, whole month, 174,872,167 rows; source: the slides of a public student project on the released files (KDZino), as
the lab's notes have them. A statistic is of events unless its name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

MAY = {
    "events": 174_872_167,
    "users": 2_765_863,
    "items": 30_054_040,
    "products": 913_718,
    "sessions": 34_832_704,
}
"""Counts of May 2023. The paper's own first month: 2,767,956 users, 30,221,983 items: close, not equal."""
WHOLE = {
    "events": 1_274_814_848,
    "users": 5_569_367,
    "items": 83_078_407,
    "sessions": 227_167_616,
    "sequences": 69_144_727,
    "c0": 17,
    "c1": 309,
    "c2": 3_073,
    "brands": 20_001,
}
"""Counts of all six months."""


@dataclass(frozen=True)
class Statistic:
    """A published number."""

    value: float
    tolerance: float
    """Relative: a generated month of 1.2 M rows that is further off fails a test."""
    what: str


PUBLISHED = {
    "view_share": Statistic(84.551, 0.01, "% of events are views"),
    "like_share": Statistic(12.736, 0.03, "% are likes"),
    "cart_share": Statistic(1.656, 0.05, "% are added to the cart"),
    "offer_share": Statistic(0.700, 0.06, "% are offers"),
    "buy_start_share": Statistic(0.247, 0.08, "% are purchases begun"),
    "buy_share": Statistic(0.109, 0.12, "% are purchases"),
    "user_mean": Statistic(63.23, 0.03, "events a user, mean"),
    "user_p50": Statistic(12, 0.01, "events a user, median"),
    "user_p95": Statistic(275, 0.02, "events a user, percentile 95"),
    "user_p99": Statistic(791, 0.03, "events a user, percentile 99"),
    "user_single": Statistic(13.31, 0.02, "% of users have one event"),
    "user_under_5": Statistic(31.36, 0.02, "% of users have under five"),
    "item_mean": Statistic(5.82, 0.05, "events an item, mean"),
    "item_p50": Statistic(2, 0.01, "events an item, median"),
    "item_single": Statistic(38.80, 0.05, "% of items have one event"),
    "item_under_5": Statistic(71.17, 0.03, "% of items have under five"),
    "item_under_10": Statistic(85.59, 0.03, "% of items have under ten"),
    "session_mean": Statistic(5.02, 0.03, "events a session, mean"),
    "session_p50": Statistic(2, 0.01, "events a session, median"),
    "session_p95": Statistic(18, 0.06, "events a session, percentile 95"),
    "session_p99": Statistic(39, 0.06, "events a session, percentile 99"),
    "session_seconds_p50": Statistic(37, 0.10, "seconds of a session, median"),
    "session_seconds_p95": Statistic(890, 0.10, "seconds of a session, percentile 95"),
    "repeats": Statistic(25.53, 0.03, "% of events repeat a pair of user and item"),
    "price_mean": Statistic(62.69, 0.05, "price, mean"),
    "price_p50": Statistic(25, 0.05, "price, median"),
    "price_p95": Statistic(225, 0.06, "price, percentile 95"),
    "price_p99": Statistic(636, 0.10, "price, percentile 99"),
    "no_brand": Statistic(19.20, 0.05, "% of events lack a brand"),
    "no_size": Statistic(62.74, 0.03, "% lack a size"),
    "no_color": Statistic(95.61, 0.01, "% lack a colour"),
    "women": Statistic(33.83, 0.06, "% are of c0 Women"),
    "toys": Statistic(18.8, 0.08, "% are of c0 Toys & Collectibles"),
    "men": Statistic(9.0, 0.10, "% are of c0 Men"),
    "per_day_min": Statistic(3.168, 0.15, "% of a month's events on its weakest of 30 days"),
    "per_day_max": Statistic(3.597, 0.15, "% on its strongest"),
}
"""The days: 5.54 to 6.29 of 174.87 M a day; 31 May has 88 events and is left out as no day."""
