"""Writes a month of a marketplace in MerRec's schema, shard by shard, to the published statistics. No row of it is Mercari's."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from minilm_lab.errors import LabError
from minilm_lab.runs.identity import identity_of
from minilm_lab.studies.merrec import behaviour, schema
from minilm_lab.studies.merrec.catalogue import Catalogue, catalogue, columns
from minilm_lab.studies.merrec.published import PUBLISHED

log = logging.getLogger(__name__)
VERSION = 1
"""Raised by whoever changes what is generated: it is part of every identity."""
MONTH, START = "20230501", "2023-05-01"


@dataclass(frozen=True)
class Settings:
    """What decides every generated row."""

    users: int = 20_000
    seed: int = 0
    users_a_shard: int = 10_000

    def __post_init__(self) -> None:
        for name in ("users", "users_a_shard"):
            if getattr(self, name) < 1:
                raise LabError(f"{name}={getattr(self, name)} must be at least 1.")

    @property
    def identity(self) -> str:
        """Of the rows."""
        return identity_of("merrec", {"version": VERSION, **asdict(self)})

    @property
    def files(self) -> int:
        """How many shards."""
        return -(-self.users // self.users_a_shard)


def generate(settings: Settings, folder: Path, only: range | None = None) -> int:
    """Write ``<folder>/20230501/%012d.parquet``; `only` = numbers of shards, for jobs that share the work.

    Returns the rows written. A shard is a function of (settings, its number): processes need not speak to each other.
    """
    stock = catalogue(round(settings.users * PUBLISHED["user_mean"].value), settings.seed)
    place = folder / MONTH
    place.mkdir(parents=True, exist_ok=True)
    rows = 0
    for shard in only or range(settings.files):
        first = shard * settings.users_a_shard
        many = min(settings.users_a_shard, settings.users - first)
        if many < 1:
            raise LabError(f"shard {shard}: there are {settings.files} shards, from 0.")
        table = _table(stock, settings, shard, first, many)
        partial = place / f".{shard:012d}.tmp"
        pq.write_table(table, partial, compression="zstd", compression_level=1)
        partial.rename(place / f"{shard:012d}.parquet")
        rows += table.num_rows
        log.info("merrec: shard %d of %d, %d rows (generated)", shard + 1, settings.files, table.num_rows)
    return rows


def _table(stock: Catalogue, settings: Settings, shard: int, first: int, users: int) -> pa.Table:
    acts = behaviour.events(stock, users, np.random.default_rng([settings.seed, 2, shard]))
    distinct, place = np.unique(acts.item, return_inverse=True)
    of_item = columns(stock, distinct)
    at = pa.array(place)
    start = np.datetime64(START, "us").astype(np.int64)
    names = [
        hashlib.sha256(f"{settings.seed}/{shard}/{number}".encode()).hexdigest()
        for number in range(int(acts.session.max()) + 1)
    ]
    # A sequence's length needs its events counted: users and sequences are in order, so runs of both are sequences.
    new = np.flatnonzero(np.r_[True, (np.diff(acts.user) != 0) | (np.diff(acts.sequence) != 0)])
    lengths = np.diff(np.r_[new, len(acts.user)])
    ordinal = [f"{MONTH}_{number + 1}" for number in range(int(acts.sequence.max()) + 1)]
    ours = {
        "user_id": pa.array(acts.user + 1 + first),
        "stime": pa.array(start + acts.seconds * 1_000_000).cast(pa.timestamp("us")),
        "session_id": pa.array(names).take(pa.array(acts.session)),
        "sequence_id": pa.array(ordinal).take(pa.array(acts.sequence)),
        "sequence_length": pa.array(np.repeat(lengths, lengths)),
        "event_id": pa.array(schema.EVENTS).take(pa.array(acts.kind)),
    }
    arrays = [ours[name] if name in ours else of_item[name].take(at) for name in schema.COLUMNS]
    table = pa.table(
        [array.cast(field.type) for array, field in zip(arrays, schema.SCHEMA, strict=True)],
        schema=schema.SCHEMA,
    )
    return table.replace_schema_metadata({"merrec_generator": f"{settings.identity}"})
