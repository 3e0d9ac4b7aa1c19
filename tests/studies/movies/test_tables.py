"""Data of one's own: files and shards, columns by config; whatever does not fit is named with its column and count."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from minilm_lab.errors import LabError
from minilm_lab.studies.movies.catalogue import Catalogue, Place, read

COLUMNS = {"user": "customer", "item": "sku", "time": "bought", "id": "sku", "text": "story", "date": "out"}


@pytest.fixture
def items() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sku": [f"m{n}" for n in range(8)],
            "story": [f"a tale of {'love' if n % 2 else 'war'}" for n in range(8)],
            "out": [f"20{n:02d}-03-01" for n in range(8)],
            "genres": ["love" if n % 2 else "war|drama" for n in range(8)],
        }
    )


@pytest.fixture
def bought() -> pd.DataFrame:
    draw = np.random.default_rng(2)
    rows = [(f"c{u}", f"m{n}") for u in range(6) for n in range(8) if draw.random() < 0.7]
    table = pd.DataFrame(rows, columns=["customer", "sku"])
    table["bought"] = [f"2010-01-{1 + n % 28:02d} 12:00:00" for n in range(len(rows))]
    table["event"] = ["purchase" if n % 3 else "view" for n in range(len(rows))]
    return table


def given(
    folder: Path, bought: pd.DataFrame, items: pd.DataFrame, dated: bool = True, **more: object
) -> Catalogue:
    folder.mkdir(exist_ok=True)
    bought.to_csv(folder / "bought.csv", index=False)
    items.to_parquet(folder / "items.parquet")
    settings = {"columns": COLUMNS, **more}
    place = Place("", str(folder / "bought.csv"), str(folder / "items.parquet"), **settings)  # type: ignore[arg-type]
    return read(place, None, folder, None, dated)


def test_columns_have_the_names_that_are_given(
    tmp_path: Path, bought: pd.DataFrame, items: pd.DataFrame
) -> None:
    known = given(tmp_path, bought, items)
    assert len(known.data.rows) == len(bought) and known.data.users == [f"c{n}" for n in range(6)]
    assert known.genre_names == ["drama", "love", "war"] and known.titles == [f"m{n}" for n in range(8)]
    assert known.data.rows["time"].min() == pd.Timestamp("2010-01-01 12:00").timestamp()
    pair = known.data.rows.iloc[0]
    first = bought.sort_values(["bought", "customer", "sku"]).iloc[0]
    assert (known.data.users[pair["user"]], known.titles[pair["item"]]) == (first["customer"], first["sku"])


def test_only_some_events_count(tmp_path: Path, bought: pd.DataFrame, items: pd.DataFrame) -> None:
    known = given(tmp_path, bought, items, events=["purchase"])
    assert len(known.data.rows) == int((bought["event"] == "purchase").sum())
    assert known.left_out["interactions_of_other_events"] == int((bought["event"] == "view").sum())
    with pytest.raises(
        LabError, match=r"no row of column 'event' is 'purchased'.*Did you mean.*purchase \(\d+\)"
    ):
        given(tmp_path, bought, items, events=["purchased"])


def test_shards_are_one_table(tmp_path: Path, bought: pd.DataFrame, items: pd.DataFrame) -> None:
    (tmp_path / "shards").mkdir()
    for number, part in enumerate(np.array_split(np.arange(len(bought)), 3)):
        bought.iloc[part].to_parquet(tmp_path / "shards" / f"{number}.parquet")
    whole = given(tmp_path, bought, items)
    place = Place("", str(tmp_path / "shards"), str(tmp_path / "items.parquet"), COLUMNS)
    pd.testing.assert_frame_equal(read(place, None, tmp_path, None, True).data.rows, whole.data.rows)
    other = bought.assign(bought=1_200_000_000)
    other.to_parquet(tmp_path / "shards" / "9.parquet")
    with pytest.raises(LabError, match=r"9\.parquet: column 'bought' is numbers, in 0\.parquet texts"):
        read(place, None, tmp_path, None, True)
    other.drop(columns="sku").to_parquet(tmp_path / "shards" / "9.parquet")
    with pytest.raises(LabError, match=r"9\.parquet: column 'sku' is missing; there are: customer, bought"):
        read(place, None, tmp_path, None, True)
    bought.to_csv(tmp_path / "shards" / "9.csv")
    with pytest.raises(LabError, match="holds parquet and CSV files"):
        read(place, None, tmp_path, None, True)


def test_what_has_no_text_or_date_is_counted(
    tmp_path: Path, bought: pd.DataFrame, items: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    items.loc[0, "story"], items.loc[1, "out"] = " ", None
    lost = bought["sku"].isin(["m0", "m1"]).sum()
    with caplog.at_level(logging.WARNING):
        known = given(tmp_path, bought, items)
    assert known.left_out["movies_without_plot"] == 1 and known.left_out["movies_with_plot_without_date"] == 1
    assert known.left_out["interactions_left_out"] == lost > 0
    assert f"{lost} of {len(bought)} interactions are with items that have no text" in caplog.text
    # Where no date is needed, the item without one stays.
    assert len(given(tmp_path, bought, items, dated=False).titles) == 7


def test_repeats_are_counted(
    tmp_path: Path, bought: pd.DataFrame, items: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    twice = pd.concat([bought, bought.iloc[:4].assign(bought="2011-01-01")])
    with caplog.at_level(logging.WARNING):
        known = given(tmp_path, twice, items)
    assert "4 of" in caplog.text and len(known.data.rows) == len(bought)
    assert known.left_out["interactions_left_out"] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bought": "soon"}, r"interactions: column 'bought' of 2 rows is no date, such as 'soon'"),
        ({"customer": None}, r"interactions: column 'user' is empty in 2 rows"),
        ({"sku": "m99"}, r"column 'item' of 2 rows names items that the table of items lacks"),
    ],
)
def test_cells_that_do_not_fit(
    tmp_path: Path, bought: pd.DataFrame, items: pd.DataFrame, change: dict[str, object], message: str
) -> None:
    for column, value in change.items():
        bought.loc[[1, 4], column] = value
    with pytest.raises(LabError, match=message):
        given(tmp_path, bought, items)


def test_timestamps_in_milliseconds(tmp_path: Path, bought: pd.DataFrame, items: pd.DataFrame) -> None:
    with pytest.raises(LabError, match=r"column 'time' of \d+ rows is no time.*milliseconds\?"):
        given(tmp_path, bought.assign(bought=1_262_304_000_000), items)


def test_items_that_do_not_fit(tmp_path: Path, bought: pd.DataFrame, items: pd.DataFrame) -> None:
    with pytest.raises(LabError, match="column 'id' names 1 items more than once"):
        given(tmp_path, bought, pd.concat([items, items.iloc[:1]]))
    with pytest.raises(LabError, match=r"'sku' is .*, items: column 'sku' is int64: ids must be of one type"):
        given(tmp_path, bought, items.assign(sku=range(8)))
    with pytest.raises(LabError, match=r"column 'release_date' of 8 rows is no date, such as 'May'"):
        given(tmp_path, bought, items.assign(out="May"))
    with pytest.raises(LabError, match=r"items\.parquet: column 'story' is missing; there are: sku, out"):
        given(tmp_path, bought, items.drop(columns="story"))


def test_settings_that_do_not_fit(tmp_path: Path, bought: pd.DataFrame, items: pd.DataFrame) -> None:
    with pytest.raises(LabError, match=r"evaluator\.columns\.usr: no such meaning.*user"):
        given(tmp_path, bought, items, columns={"usr": "customer"})
    with pytest.raises(LabError, match=r"evaluator\.interactions=.*nowhere: give a \.parquet or \.csv"):
        read(Place("", "nowhere", str(tmp_path / "items.parquet")), None, tmp_path, None, True)
    with pytest.raises(LabError, match="go together"):
        read(Place("", "nowhere"), None, tmp_path, None, True)
