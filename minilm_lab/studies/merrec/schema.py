"""The 25 columns of MerRec's files, their types, and shards that are checked before a row of them is read.

Source: the types of the 312 files of May 2023 as DuckDB lists them in a public notebook; those of the last five columns,
which that listing cuts off, by their use.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from minilm_lab.errors import LabError, nearest

INTEGER, REAL, TEXT, TIME = "integer", "real", "text", "timestamp"
COLUMNS = {
    "user_id": INTEGER,
    "stime": TIME,
    "session_id": TEXT,
    "sequence_id": TEXT,
    "sequence_length": INTEGER,
    "event_id": TEXT,
    "item_id": INTEGER,
    "product_id": TEXT,
    "name": TEXT,
    "price": REAL,
    "c0_name": TEXT,
    "c0_id": INTEGER,
    "c1_name": TEXT,
    "c1_id": INTEGER,
    "c2_name": TEXT,
    "c2_id": INTEGER,
    "brand_name": TEXT,
    "brand_id": INTEGER,
    "item_condition_id": INTEGER,
    "item_condition_name": TEXT,
    "size_name": TEXT,
    "size_id": INTEGER,
    "color": TEXT,
    "shipper_id": INTEGER,
    "shipper_name": TEXT,
}
"""Name → kind, in the order of the files."""
ARROW = {INTEGER: pa.int64(), REAL: pa.float64(), TEXT: pa.string(), TIME: pa.timestamp("us")}
SCHEMA = pa.schema([(name, ARROW[kind]) for name, kind in COLUMNS.items()])
"""What the generator writes."""
EVENTS = ("item_view", "item_like", "item_add_to_cart_tap", "offer_make", "buy_start", "buy_comp")
"""Kinds of events, from the most frequent to the rarest; their place here is their code."""
NULLABLE = ("c2_name", "c2_id", "brand_name", "brand_id", "size_name", "size_id", "color")
"""May be empty; an empty cell of any other column is an error."""


@dataclass(frozen=True)
class Shards:
    """Parquet files of one schema; users are whole within a file."""

    files: tuple[Path, ...]
    rows: int
    """By the files' footers."""
    bytes: int
    generated: bool
    """Whether the generator wrote them, which it notes in each file's metadata."""


def shards(folder: str | Path, hub: str | None = None, *, only: Sequence[str] = ()) -> Shards:
    """The files below `folder`, or below it in `hub`, each footer checked; no row is read.

    only: names of months, such as 20230501; () = all.
    LabError: nothing there, an unknown month, a file that is no parquet, columns missing or of another type (with the count
    of files), rows of the generator beside others.
    """
    place = Path(folder).expanduser()
    if not place.exists() and hub is not None:
        place = Path(hub).expanduser() / folder
    files = sorted(place.rglob("*.parquet")) if place.is_dir() else [place] if place.is_file() else []
    if not files:
        raise LabError(
            f"path={folder}: no parquet file is there. Give the folder of the months (20230501/000000000000.parquet, …), "
            "relative to paths.hub or absolute; without the files: minilm-lab merrec do=generate."
        )
    if only:
        there = sorted({file.parent.name for file in files})
        for month in only:
            if month not in there:
                raise LabError(f"months={month}: no such folder in {place}.{nearest(month, there)} There are: {', '.join(there)}.")  # fmt: skip
        files = [file for file in files if file.parent.name in only]
    with ThreadPoolExecutor(8) as pool:
        footers = list(pool.map(_footer, files))
    _check([footer.schema.to_arrow_schema() for footer in footers], files)
    generated = {b"merrec_generator" in (footer.metadata or {}) for footer in footers}
    if len(generated) > 1:
        raise LabError(
            f"{place}: some files are generated and some are not; keep them in folders of their own."
        )
    rows = sum(footer.num_rows for footer in footers)
    if rows == 0:
        raise LabError(f"{place}: {len(files)} files hold no row.")
    return Shards(tuple(files), rows, sum(file.stat().st_size for file in files), generated == {True})


def _footer(file: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise LabError(
            f"{file} is no parquet file ({str(error).splitlines()[0]}): fetch it again."
        ) from error


def _check(schemas: Sequence[pa.Schema], files: Sequence[Path]) -> None:
    for name, kind in COLUMNS.items():
        lacking = [file for schema, file in zip(schemas, files, strict=True) if name not in schema.names]
        if lacking:
            raise LabError(
                f"column '{name}' is missing in {len(lacking)} of {len(files)} files, first in {lacking[0]}."
            )
        other = [
            (file, schema.field(name).type)
            for schema, file in zip(schemas, files, strict=True)
            if not _is(schema.field(name).type, kind, name)
        ]
        if other:
            raise LabError(
                f"column '{name}' must be {kind} and is {other[0][1]} in {len(other)} of {len(files)} files, first in "
                f"{other[0][0]}."
            )


def _is(actual: pa.DataType, kind: str, name: str) -> bool:
    if pa.types.is_dictionary(actual):
        actual = actual.value_type
    if pa.types.is_null(actual):  # a column without a value in this file
        return name in NULLABLE
    if kind == TEXT:
        return bool(pa.types.is_string(actual) or pa.types.is_large_string(actual))
    if kind == TIME:
        return bool(pa.types.is_timestamp(actual))
    # Ids that may be empty come as doubles out of pandas.
    if kind == INTEGER:
        return bool(pa.types.is_integer(actual) or (name in NULLABLE and pa.types.is_floating(actual)))
    return bool(pa.types.is_floating(actual) or pa.types.is_integer(actual) or pa.types.is_decimal(actual))
