"""Splits do not leak; tables that do not fit are named."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from minilm_lab.errors import LabError
from minilm_lab.studies.recommendation.splits import Interactions, in_matrix, read, released_after, rolling


def tables(users: int = 8, items: int = 20, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Items appear every half a year from 2000 on; users meet them after their release."""
    draw = np.random.default_rng(seed)
    dates = pd.Timestamp("2000-01-01") + pd.to_timedelta(180 * np.arange(items), unit="D")
    catalogue = pd.DataFrame({"id": 100 + np.arange(items), "text": "a plot", "date": dates})
    rows = [
        (f"u{user}", 100 + item, int(dates[item].timestamp()) + int(draw.integers(86400, 10**7)))
        for user in range(users)
        for item in range(items)
        if draw.random() < 0.7
    ]
    return pd.DataFrame(rows, columns=["user", "item", "time"]), catalogue


def data() -> Interactions:
    return read(*tables())


def test_nothing_of_a_new_item_is_trained_on() -> None:
    known = data()
    split = released_after(known, "2006-01-01")
    new = known.items["date"].to_numpy() >= np.datetime64("2006-01-01")
    assert not split.train[:, new].any() and not split.test[:, ~new].any()
    assert (split.candidates == new).all()
    assert (split.train | split.test).sum() == len(known.rows)


def test_a_planted_future_event_changes_nothing_that_is_trained_on() -> None:
    rows, items = tables()
    before = rolling(read(rows, items), "2006-01-01", history=2)
    late = int(pd.Timestamp("2006-01-01").timestamp())
    planted = pd.DataFrame({"user": rows["user"].unique(), "item": 100, "time": late + 5})
    rows = rows[(rows["item"] != 100) | (rows["time"] < late)]
    after = rolling(read(pd.concat([rows, planted]), items), "2006-01-01", history=2)
    assert np.array_equal(before.train, after.train)
    assert np.array_equal(before.test, after.test)


def test_rolling_judges_a_years_releases_for_users_with_a_history() -> None:
    known = data()
    split = rolling(known, "2006-01-01", history=7)
    dates = known.items["date"].to_numpy()
    new = (dates >= np.datetime64("2006-01-01")) & (dates < np.datetime64("2007-01-01"))
    past = known.rows["time"] < int(pd.Timestamp("2006-01-01").timestamp())
    for row in known.rows[past].itertuples():
        assert split.train[row.user, row.item] != new[row.item]
    assert not split.test[:, ~new].any()
    assert (split.train[split.test.any(axis=1)].sum(axis=1) >= 7).all()


def test_in_matrix_judges_the_last_of_each_user() -> None:
    known = data()
    split = in_matrix(known, 0.2)
    assert not (split.train & split.test).any() and not (split.candidates & split.train).any()
    for user, rows in known.rows.groupby("user"):
        last = rows.sort_values("time")["item"].to_list()[-max(1, int(0.2 * len(rows))) :]
        assert sorted(np.flatnonzero(split.test[user])) == sorted(last)


def test_repeats_collapse_and_texts_are_needed_and_both_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    rows, items = tables()
    items.loc[0, "text"] = " "
    without = int((rows["item"] == 100).sum())
    with caplog.at_level(logging.WARNING):
        known = read(pd.concat([rows, rows.iloc[-3:].assign(time=rows["time"].max() + 9)]), items)
    assert f"{without} of {len(rows) + 3} interactions are with items that have no text" in caplog.text
    assert "3 of" in caplog.text and "repeat a pair" in caplog.text
    assert len(known.rows) == len(rows) - without


def test_tables_that_do_not_fit_are_named() -> None:
    rows, items = tables()
    with pytest.raises(LabError, match="column 'time' is missing"):
        read(rows.drop(columns="time"), items)
    with pytest.raises(LabError, match="column 'user' is empty in 1 rows"):
        read(rows.assign(user=rows["user"].mask(rows.index == 2)), items)
    with pytest.raises(LabError, match="names 1 items more than once"):
        read(rows, pd.concat([items, items[:1]]))
    with pytest.raises(LabError, match=r"column 'item' of \d+ rows names items"):
        read(rows, items[1:])
    with pytest.raises(LabError, match="milliseconds"):
        read(rows.assign(time=rows["time"] * 1000), items)
    with pytest.raises(LabError, match=r"column .time. is \w+; give seconds"):
        read(rows.assign(time="May"), items)
    with pytest.raises(LabError, match="no row is left"):
        read(rows, items.assign(text=""))


def test_periods_without_anything_are_named() -> None:
    rows, items = tables()
    with pytest.raises(LabError, match="released_after=2050-01-01: no interaction is in the test period"):
        released_after(read(rows, items), "2050-01-01")
    with pytest.raises(LabError, match="date=1999-01-01: no interaction is to train on"):
        rolling(read(rows, items), "1999-01-01")
    with pytest.raises(LabError, match="column 'date' is empty in 1 of 20 items"):
        released_after(read(rows, items.assign(date=items["date"].mask(items.index == 3))), "2006-01-01")
    with pytest.raises(LabError, match="share=1"):
        in_matrix(data(), 1.0)


def test_times_may_be_datetimes() -> None:
    rows, items = tables()
    moments = read(rows.assign(time=pd.to_datetime(rows["time"], unit="s")), items)
    pd.testing.assert_frame_equal(moments.rows, read(rows, items).rows)
