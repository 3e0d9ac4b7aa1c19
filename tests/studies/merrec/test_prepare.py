"""Files → numbers, against pandas; the cut in time, against a loop; what would leak, and what is counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from minilm_lab.errors import LabError
from minilm_lab.studies.merrec import log, prepare, schema
from minilm_lab.studies.merrec.generator import Settings, generate
from minilm_lab.studies.merrec.log import Log

DAY = 86_400
START = int(np.datetime64("2023-05-01", "s").astype(int))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("rows")
    generate(Settings(users=60, users_a_shard=30), folder)
    return pd.concat([pd.read_parquet(file) for file in sorted(folder.rglob("*.parquet"))], ignore_index=True)


def prepared(frames: list[pd.DataFrame], folder: Path) -> tuple[prepare.Counts, Log]:
    (folder / "files").mkdir(parents=True)
    (folder / "out").mkdir()
    for number, frame in enumerate(frames):
        frame.to_parquet(folder / "files" / f"{number:012d}.parquet")
    counts = prepare.prepare(schema.shards(folder / "files"), folder / "out", folder / "spill", threads=1)
    assert prepare.counts_of(folder / "out") == counts
    return counts, log.read(folder / "out")


def test_numbers_are_those_of_pandas(
    rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "STEP", 1)  # every file is a step of its own
    half = rows["user_id"] <= 30
    counts, data = prepared([rows[half].sample(frac=1, random_state=0), rows[~half]], tmp_path)
    users, items = np.sort(rows["user_id"].unique()), np.sort(rows["item_id"].unique())
    expected = pd.DataFrame(
        {
            "user": np.searchsorted(users, rows["user_id"]),
            "item": np.searchsorted(items, rows["item_id"]),
            "time": rows["stime"].astype("datetime64[s]").astype(np.int64),
            "kind": rows["event_id"].map({name: code for code, name in enumerate(schema.EVENTS)}),
            "session_id": rows["session_id"],
        }
    ).drop_duplicates()
    got = pd.DataFrame({name: getattr(data, name) for name in ("user", "item", "time", "kind", "session")})
    order = ["user", "time", "item", "kind"]
    pd.testing.assert_frame_equal(
        got[order].sort_values(order, ignore_index=True),
        expected[order].sort_values(order, ignore_index=True),
        check_dtype=False,
    )
    assert got["session"].nunique() == expected["session_id"].nunique()
    assert (got.groupby("session")["user"].nunique() == 1).all() and (got["user"].diff().dropna() >= 0).all()
    assert counts.events == len(expected) and counts.duplicates == len(rows) - len(expected)
    names = rows.drop_duplicates("item_id").set_index("item_id").loc[items, "name"]
    assert [data.titles[number] for number in data.title_of] == names.tolist()
    assert len(data.titles) == len(set(data.titles)) == counts.titles
    assert counts.across_files == 0


def test_what_does_not_fit_is_counted(rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    monkeypatch.setattr(prepare, "STEP", 1)
    again = rows.iloc[:7]
    other = rows.iloc[7:9].assign(name="another title", stime=rows["stime"].max())
    with caplog.at_level("WARNING"):
        counts, data = prepared([rows.drop_duplicates(), pd.concat([again, other])], tmp_path)
    assert counts.several_titles == other["item_id"].nunique()
    assert counts.across_files == pd.concat([again, other])["user_id"].nunique()
    assert "another title" not in data.titles, "the earliest title counts"
    assert "items have more than one title" in caplog.text


def made(times: dict[tuple[int, int], list[tuple[int, int]]]) -> Log:
    """(user, session) → (day, item) of its events."""
    lines = [
        (u, i, s, START + d * DAY + n, 0)
        for (u, s), events in times.items()
        for n, (d, i) in enumerate(events)
    ]
    user, item, session, time, kind = np.asarray(lines, dtype=np.int64).T
    return Log(
        user,
        item,
        session,
        time,
        kind,
        {"title": np.arange(item.max() + 1)},
        [str(n) for n in range(item.max() + 1)],
    )


def test_the_cut() -> None:
    data = made(
        {
            (0, 0): [(1, 3), (1, 4), (1, 3)],
            (0, 1): [(9, 5), (11, 6), (11, 7)],  # goes on across the cut
            (1, 2): [(2, 1)],  # single
            (1, 3): [(12, 3), (12, 8), (12, 3), (12, 3)],
            (2, 4): [(25, 3), (25, 4)],  # after the judged period
        }
    )
    parts = log.cut(data, START + 10 * DAY, START + 20 * DAY, length=2, most=99)
    assert data.item[parts.train].tolist() == [3, 4, 3] and parts.bounds.tolist() == [0, 3]
    judged = parts.judged
    assert judged.target.tolist() == [8, 3, 3]
    assert judged.history.tolist() == [[-1, 3], [3, 8], [8, 3]]
    assert judged.fresh.tolist() == [True, False, False]
    assert judged.cold.tolist() == [True, False, False]
    assert parts.facts["events_of_sessions_across_the_cut"] == 2 and parts.facts["single_train_sessions"] == 2
    # Older than what is read, and yet not fresh.
    parts = log.cut(data, START + 10 * DAY, START + 20 * DAY, length=1, most=99)
    assert parts.judged.fresh.tolist() == [True, False, False]


def test_nothing_of_the_judged_period_is_learned_from(rows: pd.DataFrame, tmp_path: Path) -> None:
    """A planted future changes nothing of what is learned."""
    _, data = prepared([rows], tmp_path)
    start = START + 20 * DAY
    first = log.cut(data, start, START + 30 * DAY, length=20, most=10**6)
    assert data.time[first.train].max() < start
    changed = Log(data.user, np.where(data.time >= start, 0, data.item), data.session, data.time, data.kind, data.items, data.titles)  # fmt: skip
    second = log.cut(changed, start, START + 30 * DAY, length=20, most=10**6)
    assert np.array_equal(first.train, second.train) and np.array_equal(first.known, second.known)
    assert np.array_equal(data.item[first.train], changed.item[second.train])


def test_whole_users_are_drawn(rows: pd.DataFrame, tmp_path: Path) -> None:
    _, data = prepared([rows], tmp_path)
    every = log.cut(data, START + 15 * DAY, START + 30 * DAY, length=20, most=10**6)
    some = log.cut(data, START + 15 * DAY, START + 30 * DAY, length=20, most=len(every.judged.target) // 2)
    people, counts = np.unique(some.judged.user, return_counts=True)
    of_all = {user: (every.judged.user == user).sum() for user in people}
    assert len(some.judged.target) == len(every.judged.target) // 2
    assert sum(count != of_all[user] for user, count in zip(people, counts, strict=True)) <= 1


def test_periods_that_hold_nothing() -> None:
    data = made({(0, 0): [(1, 3), (1, 4)], (0, 1): [(12, 3), (12, 4)]})
    with pytest.raises(LabError, match="No session before the cut"):
        log.cut(data, START, START + 20 * DAY, length=2, most=9)
    with pytest.raises(LabError, match=r"judged period has no session of two events .* within 2023-05-02"):
        log.cut(data, START + 20 * DAY, START + 30 * DAY, length=2, most=9)
