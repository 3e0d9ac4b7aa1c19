"""Interactions and items of one's own: a parquet or CSV file, or a folder of such shards, columns named by config."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from minilm_lab.errors import LabError, first_line, nearest

ENDINGS = (".parquet", ".csv")
INTERACTIONS = {"user": "user_id", "item": "movie_id", "time": "timestamp"}
ITEMS = {"id": "movie_id", "text": "plot", "date": "release_date"}
OPTIONAL = {"title": "title", "genres": "genres", "event": "event"}
"""What a column means -> its usual name; `evaluator.columns` gives others."""


def files_of(path: str, key: str) -> list[Path]:
    """The file, or the shards of the folder; LabError if there is none, or of both kinds."""
    place = Path(path).expanduser()
    found = [place] if place.is_file() else sorted(file for file in place.glob("*") if file.suffix in ENDINGS)
    if not found or any(file.suffix not in ENDINGS for file in found):
        raise LabError(
            f"evaluator.{key}={path}: give a {' or '.join(ENDINGS)} file, or a folder that holds some."
        )
    if len({file.suffix for file in found}) > 1:
        raise LabError(f"evaluator.{key}={path} holds parquet and CSV files: which of them counts?")
    return found


def read(
    interactions: list[Path], items: list[Path], columns: dict[str, str], events: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Items (movie_id, plot, release_date, genres and maybe title), interactions (user_id, movie_id, timestamp), and what
    was left out by its reason.

    columns: meaning -> name, in place of those of `INTERACTIONS`, `ITEMS` and `OPTIONAL`. events: names that count of the
    column ``event``; empty = every row counts.

    LabError: a meaning that there is not, columns that a shard lacks or has as another type, event names that no row has,
    ids of other types in the two tables, times that are none.
    """
    known = {**INTERACTIONS, **ITEMS, **OPTIONAL}
    if unknown := [meaning for meaning in columns if meaning not in known]:
        raise LabError(
            f"evaluator.columns.{unknown[0]}: no such meaning of a column.{nearest(unknown[0], known)} There are: "
            f"{', '.join(known)}."
        )
    named = {**known, **columns}
    wanted = [*INTERACTIONS, *(["event"] if events else [])]
    rows, _ = _shards(interactions, {meaning: named[meaning] for meaning in wanted}, {})
    left_out: dict[str, int] = {}
    if events:
        rows, left_out = _events(rows, events, named["event"])
    optional = {meaning: named[meaning] for meaning in ("title", "genres")}
    table, there = _shards(items, {meaning: named[meaning] for meaning in ITEMS}, optional)
    kinds = [pd.api.types.is_numeric_dtype(column) for column in (rows["item"], table["id"])]
    if kinds[0] != kinds[1]:
        raise LabError(
            f"interactions: column '{named['item']}' is {rows['item'].dtype}, items: column '{named['id']}' is "
            f"{table['id'].dtype}: ids must be of one type."
        )
    if "genres" not in there:
        table["genres"] = [[] for _ in range(len(table))]
    elif table["genres"].map(lambda cell: isinstance(cell, str)).any():
        table["genres"] = (
            table["genres"]
            .fillna("")
            .map(lambda cell: [g.strip() for g in str(cell).split("|") if g.strip()])
        )
    if not pd.api.types.is_numeric_dtype(rows["time"]):
        rows["time"] = moments(rows["time"], "interactions", named["time"])
    items_as = {"id": "movie_id", "text": "plot", "date": "release_date"}
    return (
        table.rename(columns=items_as),
        rows.rename(columns=INTERACTIONS)[list(INTERACTIONS.values())],
        left_out,
    )


def moments(cells: pd.Series, table: str, column: str) -> pd.Series:
    """Texts as datetimes, without zone (UTC); empty ones stay empty. LabError with the count of those that are none."""
    read = pd.to_datetime(cells, errors="coerce", utc=True, format="ISO8601")
    if (wrong := int((read.isna() & cells.notna()).sum())) > 0:
        example = cells[read.isna() & cells.notna()].iloc[0]
        raise LabError(
            f"{table}: column '{column}' of {wrong} rows is no date, such as {example!r}; write 2010-01-01."
        )
    return read.dt.tz_localize(None)


def _events(rows: pd.DataFrame, events: list[str], column: str) -> tuple[pd.DataFrame, dict[str, int]]:
    counts = rows["event"].value_counts()
    if absent := [event for event in events if event not in counts]:
        raise LabError(
            f"evaluator.events: no row of column '{column}' is {absent[0]!r}.{nearest(absent[0], list(map(str, counts.index)))} "
            f"There are: {', '.join(f'{event} ({count})' for event, count in counts.items())}."
        )
    counted = rows["event"].isin(events)
    return rows[counted], {"interactions_of_other_events": int((~counted).sum())}


def _shards(
    files: list[Path], wanted: dict[str, str], optional: dict[str, str]
) -> tuple[pd.DataFrame, set[str]]:
    """The rows of all files with their columns by meaning, and which optional ones there are."""
    tables: list[pd.DataFrame] = []
    types: dict[str, str] = {}
    for file in files:
        try:
            table = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)
        except (OSError, ValueError) as error:
            raise LabError(f"{file} cannot be read: {first_line(error)}") from error
        there = {meaning: name for meaning, name in optional.items() if name in table}
        if missing := [name for name in wanted.values() if name not in table]:
            raise LabError(
                f"{file}: column {missing[0]!r} is missing; there are: {', '.join(map(str, table.columns))}. Name "
                f"yours with evaluator.columns.<meaning>=<name>."
            )
        chosen = {**wanted, **there}
        table = pd.DataFrame({meaning: table[name] for meaning, name in chosen.items()})
        for meaning, name in chosen.items():
            kind = _kind(table[meaning])
            if types.setdefault(meaning, kind) != kind and kind:
                raise LabError(
                    f"{file}: column '{name}' is {kind}, in {files[0].name} {types[meaning]}: shards must agree."
                )
        if set(chosen) != set(types):
            lost = sorted(set(types) - set(chosen))
            raise LabError(f"{file}: column '{optional[lost[0]]}' is missing, which {files[0].name} has.")
        tables.append(table)
    return pd.concat(tables, ignore_index=True), set(types)


def _kind(cells: pd.Series) -> str:
    """What a column holds, without the width of its numbers; "" where it is empty."""
    if cells.isna().all():
        return ""
    if pd.api.types.is_datetime64_any_dtype(cells):
        return "datetimes"
    if pd.api.types.is_numeric_dtype(cells):
        return "numbers"
    first = cells.dropna().iloc[0]
    return "texts" if isinstance(first, str) else f"{type(first).__name__}s"
