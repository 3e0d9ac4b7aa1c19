"""Every published statistic, measured on files: of the real ones and of generated ones by the same queries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from minilm_lab.errors import LabError
from minilm_lab.studies.merrec import GENERATED, schema
from minilm_lab.studies.merrec.engine import engine, listed, row
from minilm_lab.studies.merrec.published import PUBLISHED, WHOLE
from minilm_lab.studies.merrec.schema import EVENTS, NULLABLE, Shards

if TYPE_CHECKING:
    import duckdb

_KINDS = dict(zip(("view", "like", "cart", "offer", "buy_start", "buy"), EVENTS, strict=True))


def measured(files: Shards, spill: Path, *, memory: str = "2GB", threads: int = 2) -> dict[str, float]:
    """Name of `published.PUBLISHED` → value; with ``events``, ``users``, ``items``, ``sessions``, ``products``.

    LabError: unknown names of events, empty cells where none may be, duplicates of whole rows, times that are none (each
    with its count).
    """
    with engine(spill, memory=memory, threads=threads) as connection:
        connection.execute(f"CREATE VIEW rows AS SELECT * FROM read_parquet({listed(files.files)})")
        check(connection)
        shares = ", ".join(
            f"100.0 * avg((event_id = '{of}')::INT) AS {name}_share" for name, of in _KINDS.items()
        )
        values = row(
            connection,
            f"""SELECT count(*) AS events, {shares}, avg(price) AS price_mean,
            approx_quantile(price, 0.5) AS price_p50, approx_quantile(price, 0.95) AS price_p95,
            approx_quantile(price, 0.99) AS price_p99, 100.0 * avg((brand_name IS NULL)::INT) AS no_brand,
            100.0 * avg((size_name IS NULL)::INT) AS no_size, 100.0 * avg((color IS NULL)::INT) AS no_color,
            100.0 * avg((c0_name = 'Women')::INT) AS women, 100.0 * avg((c0_name LIKE 'Toys%')::INT) AS toys,
            100.0 * avg((c0_name = 'Men')::INT) AS men, approx_count_distinct(product_id) AS products FROM rows""",
        )
        values |= row(connection, _counts("user_id", "user"))
        values |= row(connection, _counts("item_id", "item"))
        values |= row(
            connection,
            """SELECT count(*) AS sessions, avg(n) AS session_mean, quantile_disc(n, 0.5) AS session_p50,
            quantile_disc(n, 0.95) AS session_p95, quantile_disc(n, 0.99) AS session_p99,
            quantile_disc(s, 0.5) AS session_seconds_p50, quantile_disc(s, 0.95) AS session_seconds_p95
            FROM (SELECT count(*) AS n, date_diff('second', min(stime), max(stime)) AS s FROM rows
            GROUP BY user_id, session_id)""",
        )
        values |= row(
            connection,
            "SELECT 100.0 * (1 - count(*) / sum(n)) AS repeats FROM "
            "(SELECT count(*) AS n FROM rows GROUP BY user_id, item_id)",
        )
        # A day with next to nothing, such as 31 May, is none.
        values |= row(
            connection,
            """SELECT 100.0 * min(n) / sum(n) AS per_day_min, 100.0 * max(n) / sum(n) AS per_day_max FROM
            (SELECT n, avg(n) OVER () AS mean FROM
            (SELECT count(*) AS n FROM rows GROUP BY stime::DATE)) WHERE n > mean / 100""",
        )
    return {name: float(value) for name, value in values.items()}


def check(connection: duckdb.DuckDBPyConnection) -> None:
    """Look at every row of the view ``rows`` once; LabError names the column and the count."""
    kinds = ", ".join(f"'{kind}'" for kind in EVENTS)
    needed = [name for name in schema.COLUMNS if name not in NULLABLE]
    empty = ", ".join(f"count(*) - count({name}) AS {name}" for name in needed)
    counts = row(
        connection,
        f"""SELECT {empty}, count(*) FILTER (event_id NOT IN ({kinds})) AS unknown,
        min(event_id) FILTER (event_id NOT IN ({kinds})) AS example,
        count(*) FILTER (stime < TIMESTAMP '2000-01-01' OR stime > TIMESTAMP '2100-01-01') AS times,
        max(stime)::VARCHAR AS latest, count(*) FILTER (price < 0 OR isnan(price::DOUBLE)) AS prices,
        count(*) FILTER (trim(name) = '') AS untitled FROM rows""",
    )
    for name in needed:
        if counts[name]:
            raise LabError(f"column '{name}' is empty in {counts[name]} rows.")
    if counts["unknown"]:
        raise LabError(
            f"column 'event_id': {counts['unknown']} rows have unknown names of events, such as {counts['example']!r}; known "
            f"are: {', '.join(EVENTS)}."
        )
    if counts["times"]:
        raise LabError(
            f"column 'stime': {counts['times']} rows are outside 2000 to 2100 (the latest is {counts['latest']}): a time in "
            "another unit?"
        )
    if counts["prices"]:
        raise LabError(f"column 'price': {counts['prices']} rows are negative or no number.")
    if counts["untitled"]:
        raise LabError(
            f"column 'name': {counts['untitled']} rows have an empty title; an encoder has nothing to read."
        )


def _counts(column: str, name: str) -> str:
    return f"""SELECT count(*) AS {name}s, avg(n) AS {name}_mean, quantile_disc(n, 0.5) AS {name}_p50,
    quantile_disc(n, 0.95) AS {name}_p95, quantile_disc(n, 0.99) AS {name}_p99,
    100.0 * avg((n < 2)::INT) AS {name}_single, 100.0 * avg((n < 5)::INT) AS {name}_under_5,
    100.0 * avg((n < 10)::INT) AS {name}_under_10 FROM (SELECT count(*) AS n FROM rows GROUP BY {column})"""


def beside(values: dict[str, float], files: Shards) -> pd.DataFrame:
    """``statistic``, ``what``, ``measured``, ``published``, ``off`` (% of the published), ``within`` the tolerance."""
    lines = []
    for name, of in PUBLISHED.items():
        off = values[name] / of.value - 1
        lines.append((name, of.what, values[name], of.value, 100 * off, abs(off) <= of.tolerance))
    table = pd.DataFrame(lines, columns=["statistic", "what", "measured", "published", "off", "within"])
    table.attrs["note"] = GENERATED if files.generated else f"{files.rows:,} rows of {WHOLE['events']:,}"
    return table
