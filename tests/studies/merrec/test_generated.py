"""A generated month against what is published, by queries of DuckDB and again by pandas; a shard is a function of its number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.stats import norm

from minilm_lab.studies.merrec import GENERATED, schema, statistics
from minilm_lab.studies.merrec.generator import Settings, generate
from minilm_lab.studies.merrec.published import PUBLISHED
from minilm_lab.studies.merrec.quantiles import Quantiles
from minilm_lab.studies.merrec.schema import Shards


@pytest.fixture(scope="module")
def values(files: Shards, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    return statistics.measured(files, tmp_path_factory.mktemp("spill"), threads=1)


@pytest.fixture(scope="module")
def rows(month: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(file) for file in sorted(month.rglob("*.parquet"))], ignore_index=True)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_statistic_comes_to_the_published_one(values: dict[str, float], name: str) -> None:
    of = PUBLISHED[name]
    assert values[name] == pytest.approx(of.value, rel=of.tolerance), of.what


def test_the_queries_say_what_pandas_says(values: dict[str, float], rows: pd.DataFrame) -> None:
    users = rows.groupby("user_id").size()
    items = rows.groupby("item_id").size()
    sessions = rows.groupby(["user_id", "session_id"])["stime"].agg(["size", "min", "max"])
    seconds = (sessions["max"] - sessions["min"]).dt.total_seconds()
    expected = {
        "events": len(rows),
        "user_mean": users.mean(),
        "user_single": 100 * (users < 2).mean(),
        "item_mean": items.mean(),
        "item_under_5": 100 * (items < 5).mean(),
        "session_mean": sessions["size"].mean(),
        "session_p95": sessions["size"].quantile(0.95, interpolation="higher"),
        "session_seconds_p50": np.ceil(seconds.quantile(0.5)),
        "repeats": 100 * rows.duplicated(["user_id", "item_id"]).mean(),
        "offer_share": 100 * (rows["event_id"] == "offer_make").mean(),
        "no_brand": 100 * rows["brand_name"].isna().mean(),
        "women": 100 * (rows["c0_name"] == "Women").mean(),
        "price_mean": rows["price"].mean(),
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert values["price_p95"] == pytest.approx(rows["price"].quantile(0.95), rel=0.02)
    per_day = 100 * rows["stime"].dt.date.value_counts(normalize=True)
    assert (values["per_day_min"], values["per_day_max"]) == pytest.approx((per_day.min(), per_day.max()))


def test_rows_are_of_the_schema(rows: pd.DataFrame, files: Shards) -> None:
    assert list(rows) == list(schema.COLUMNS) and len(rows.columns) == 25
    assert files.generated and files.rows == len(rows)
    assert set(rows["event_id"]) == set(schema.EVENTS)
    # An item is the same thing wherever it stands; a product is a brand and a category.
    fixed = [name for name in schema.COLUMNS if name not in ("user_id", "stime", "session_id", "sequence_id", "sequence_length", "event_id")]  # fmt: skip
    assert (rows.groupby("item_id")[fixed].nunique(dropna=False) == 1).all(axis=None)
    category = rows["c2_id"].fillna(rows["c1_id"]).astype(int).astype(str)
    assert (rows["product_id"] == rows["brand_id"].astype(str) + "_" + category).all()
    assert rows["c2_name"].isna().any() and (rows["name"].str.len() > 3).all()
    assert (rows["brand_id"].eq(0) == rows["brand_name"].isna()).all()


def test_sessions_and_sequences_are_whole_and_in_order(rows: pd.DataFrame) -> None:
    assert (rows.groupby("user_id")["stime"].diff().dropna() >= pd.Timedelta(0)).all()
    spans = rows.groupby(["user_id", "session_id"], sort=False)["stime"].agg(["min", "max"]).reset_index()
    later = spans["user_id"].eq(spans["user_id"].shift(-1)) & (
        spans["min"].shift(-1) < pd.Timestamp("2023-05-30")
    )
    assert (spans["max"] < spans["min"].shift(-1))[later].all(), (
        "a session begins after the one before has ended"
    )
    lengths = rows.groupby(["user_id", "sequence_id"])["sequence_length"].agg(["size", "nunique", "first"])
    assert (lengths["nunique"] == 1).all() and (lengths["size"] == lengths["first"]).all()
    assert rows["stime"].between("2023-05-01", "2023-05-31").all()


def test_taste_lives_in_text(rows: pd.DataFrame) -> None:
    """Two items of a session share a theme or category far more often than two of different users."""
    words = rows["name"].str.split()
    same = rows["session_id"].eq(rows["session_id"].shift(-1)) & rows["item_id"].ne(rows["item_id"].shift(-1))
    place = np.flatnonzero(same)[:3000]
    other = np.random.default_rng(0).permutation(place)
    overlap = [len(set(words[n]) & set(words[n + 1])) for n in place]
    chance = [len(set(words[n]) & set(words[m])) for n, m in zip(place, other, strict=True)]
    assert np.mean(overlap) > 1.5 * np.mean(chance)


def test_a_shard_is_a_function_of_settings_and_number(month: Path, tmp_path: Path) -> None:
    generate(Settings(users=4000, users_a_shard=2500, seed=3), tmp_path, range(1, 2))
    name = "20230501/000000000001.parquet"
    assert pq.read_table(tmp_path / name).equals(pq.read_table(month / name))
    generate(Settings(users=400, users_a_shard=400, seed=4), tmp_path / "other")
    generate(Settings(users=400, users_a_shard=400, seed=5), tmp_path / "seed")
    first, second = (pq.read_table(tmp_path / folder) for folder in ("other", "seed"))
    assert not first.equals(second)


def test_the_table_says_what_it_is_of(values: dict[str, float], files: Shards) -> None:
    table = statistics.beside(values, files)
    assert table.attrs["note"] == GENERATED and table["within"].all()
    worse = statistics.beside(values | {"repeats": 31.0}, files)
    assert worse.loc[~worse["within"], "statistic"].tolist() == ["repeats"]


def test_quantiles_go_through_their_knots() -> None:
    knots = ((0.1, 2.0), (0.5, 12.0), (0.95, 275.0))
    of = Quantiles(knots)
    assert of(np.array([p for p, _ in knots])) == pytest.approx([value for _, value in knots])
    # Two knots of a log-normal give the log-normal.
    straight = Quantiles(tuple((float(norm.cdf(z)), float(np.exp(1 + 2 * z))) for z in (-3.0, 3.0)))
    assert straight(norm.cdf([-1.0, 0.5])) == pytest.approx(np.exp(1 + 2 * np.array([-1.0, 0.5])))
