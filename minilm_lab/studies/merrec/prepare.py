"""Files → numbers: what training and judging read, written in steps of some million rows within a limit of memory.

``events/%06d.parquet``: user, item, session (int64, dense), time (seconds since 1970), kind (index of schema.EVENTS), by user and
time. ``items.parquet``: in order of item: title (number), c0, c1, c2, brand, product, condition, price, events.
``titles.parquet``: title, in order of its number; every distinct one once, which is what an encoder reads.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from minilm_lab.runs.files import read_json, write_json
from minilm_lab.studies.merrec import statistics
from minilm_lab.studies.merrec.engine import engine, listed, quoted, row
from minilm_lab.studies.merrec.schema import EVENTS, Shards

log = logging.getLogger(__name__)
STEP = 4_000_000
"""Rows of one step, about: they are sorted in memory."""
VERSION = 1
_KIND = " ".join(f"WHEN '{name}' THEN {code}" for code, name in enumerate(EVENTS))


@dataclass(frozen=True)
class Counts:
    """What came of the rows: none is dropped without a count."""

    rows: int
    events: int
    duplicates: int
    """Rows that equal another in user, session, time, item and event: one of them counts."""
    users: int
    items: int
    titles: int
    several_titles: int
    """Items under more than one title: the earliest counts."""
    across_files: int
    """Users with rows in more than one step: their sessions are put together by a reader that reads all steps."""


def prepare(files: Shards, folder: Path, spill: Path, *, memory: str = "2GB", threads: int = 2) -> Counts:
    """Write the prepared folder. LabError as `statistics.check`."""
    with engine(spill, memory=memory, threads=threads) as base:
        base.execute(f"CREATE VIEW rows AS SELECT * FROM read_parquet({listed(files.files)})")
        statistics.check(base)
        base.execute(
            """CREATE TABLE stock AS SELECT item_id, arg_min(name, (stime, name)) AS name, min(name) <> max(name) AS several,
            arg_min(product_id, stime) AS product_id, min(c0_id) AS c0, min(c1_id) AS c1,
            coalesce(min(c2_id), -1) AS c2, min(brand_id) AS brand, min(item_condition_id) AS condition,
            arg_min(price, stime) AS price, count(*) AS events FROM rows GROUP BY item_id"""
        )
        base.execute(
            "CREATE TABLE titles AS SELECT name, row_number() OVER (ORDER BY name) - 1 AS title FROM "
            "(SELECT DISTINCT name FROM stock)"
        )
        base.execute(
            "CREATE TABLE numbers AS SELECT item_id, row_number() OVER (ORDER BY item_id) - 1 AS item FROM stock"
        )
        base.execute(
            "CREATE TABLE people AS SELECT user_id, row_number() OVER (ORDER BY user_id) - 1 AS person FROM "
            "(SELECT DISTINCT user_id FROM rows)"
        )
        _copy(base, "SELECT name FROM titles ORDER BY title", folder / "titles.parquet")
        _copy(
            base,
            """SELECT item, title, c0, c1, c2, brand, dense_rank() OVER (ORDER BY product_id) - 1 AS product,
            condition, price::FLOAT AS price, events, item_id FROM stock JOIN numbers USING (item_id)
            JOIN titles USING (name) ORDER BY item""",
            folder / "items.parquet",
        )
        (folder / "events").mkdir()
        offset = kept = 0
        base.execute("CREATE TABLE seen (person BIGINT)")
        for number, group in enumerate(_steps(files)):
            base.execute(
                f"""CREATE OR REPLACE TEMP TABLE step AS SELECT person, item, session_id, stime, CASE event_id {_KIND} END::TINYINT AS kind
                FROM (SELECT DISTINCT user_id, session_id, stime, item_id, event_id FROM read_parquet({listed(group)}))
                JOIN numbers USING (item_id) JOIN people USING (user_id)"""
            )
            base.execute("INSERT INTO seen SELECT DISTINCT person FROM step")
            _copy(
                base,
                f"""SELECT person AS "user", item, {offset} + dense_rank() OVER (ORDER BY person, session_id) - 1 AS session,
                epoch(stime)::BIGINT AS time, kind FROM step ORDER BY person, stime, kind, item""",
                folder / "events" / f"{number:06d}.parquet",
            )
            counts = row(
                base, "SELECT count(*) AS n, count(DISTINCT (person, session_id)) AS sessions FROM step"
            )
            offset, kept = offset + counts["sessions"], kept + counts["n"]
        several = row(base, "SELECT count(*) FILTER (several) AS n, count(*) AS items FROM stock")
        across = row(
            base, "SELECT count(*) - count(DISTINCT person) AS n, count(DISTINCT person) AS users FROM seen"
        )
        titles = row(base, "SELECT count(*) AS n FROM titles")["n"]
    counts_ = Counts(
        rows=files.rows,
        events=kept,
        duplicates=files.rows - kept,
        users=across["users"],
        items=several["items"],
        titles=titles,
        several_titles=several["n"],
        across_files=across["n"],
    )
    write_json(folder / "counts.json", {**counts_.__dict__, "generated": files.generated})
    _warn(counts_)
    return counts_


def counts_of(folder: Path) -> Counts:
    """Of a prepared folder; OSError or ValueError where it is not whole."""
    values = read_json(folder / "counts.json")
    if not isinstance(values, dict):
        raise ValueError("counts.json is not there")
    values.pop("generated")
    return Counts(**values)


def _warn(counts: Counts) -> None:
    for number, what in (
        (counts.duplicates, "rows stand twice (user, session, time, item, event): one counts"),
        (counts.several_titles, "items have more than one title: the earliest counts"),
        (counts.across_files, "users have rows in more than one step of files"),
    ):
        if number:
            log.warning("merrec: %d %s", number, what)


def _steps(files: Shards) -> Iterator[list[Path]]:
    group: list[Path] = []
    rows = 0
    for file in files.files:
        group.append(file)
        rows += pq.read_metadata(file).num_rows
        if rows >= STEP:
            yield group
            group, rows = [], 0
    if group:
        yield group


def _copy(base: object, query: str, file: Path) -> None:
    base.execute(f"COPY ({query}) TO {quoted(file)} (FORMAT parquet, COMPRESSION zstd)")  # type: ignore[attr-defined]
