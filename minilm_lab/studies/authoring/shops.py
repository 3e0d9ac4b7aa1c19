"""Products of the entity-matching sets abt_buy, amazon_google and walmart_amazon: one product, named by two shops.

A folder holds one of each, with tableA.parquet and tableB.parquet (products) and train, valid and test.parquet (pairs with
label 1 where both are one product). A pair is gold for rewriting; no row of them is in this repository.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minilm_lab.errors import LabError
from minilm_lab.studies.authoring.things import Thing, query_of

SETS = {
    "abt_buy": "not stated beside the data",
    "amazon_google": "not stated beside the data",
    "walmart_amazon": "not stated beside the data",
}
FEWEST = 50
"""Products of a category that is a label."""
TABLES = ("tableA", "tableB")


def is_there(folder: Path) -> bool:
    """Whether a folder holds one of the sets."""
    return any((folder / name / "tableA.parquet").is_file() for name in SETS)


def read(folder: Path) -> tuple[list[Thing], list[str], list[str]]:
    """Products, the categories that are labels, and what is to be said.

    Products that pairs connect, however far, have one id: all of their records are on one side of a split. Of a pair the
    first shop's title is given and the second's asked; of products in several pairs the first pair counts.
    """
    things: list[Thing] = []
    notes: list[str] = []
    for name in SETS:
        if (folder / name / "tableA.parquet").is_file():
            some, skipped = _read(folder / name, name)
            things += some
            pairs = sum(thing.rewritten is not None for thing in some)
            notes.append(f"{name}: {len(some):,} products, {pairs:,} named by two shops")
            if skipped:
                notes.append(f"{skipped:,} further pairs of the same products left out")
    counted = Counter(thing.features.get("category", "") for thing in things)
    return things, sorted(name for name, count in counted.items() if name and count >= FEWEST), notes


def unlabelled(folder: Path) -> list[Thing]:
    """Products with a title and no category: text for an expansion."""
    return [thing for thing in read(folder)[0] if not thing.features.get("category")]


def _read(folder: Path, name: str) -> tuple[list[Thing], int]:
    products = {table: _rows(folder / f"{table}.parquet") for table in TABLES}
    pairs = list(_pairs(folder))
    roots = _components(pairs)
    used: set[tuple[str, str]] = set()
    things, skipped = [], 0
    for left, right in pairs:
        if left in used or right in used:
            skipped += 1
            continue
        used |= {left, right}
        values = _features(products[left[0]][left[1]])
        other = _features(products[right[0]][right[1]])["title"]
        values["query"] = query_of(other, values["title"])
        things.append(Thing(f"{name}-{roots[left]}", "product", values, name, SETS[name], other or None))
    for table in TABLES:
        for number, row in products[table].items():
            place = (table, number)
            if place not in used:
                root = roots.get(place, f"{table}{number}")
                values = _features(row)
                if values["title"]:
                    things.append(Thing(f"{name}-{root}", "product", values, name, SETS[name]))
    return things, skipped


def _rows(file: Path) -> dict[str, dict[str, Any]]:
    from pyarrow import parquet

    if not file.is_file():
        raise LabError(f"{file}: the set is not whole; it has tableA, tableB, train, valid and test.parquet")
    return {str(row["id"]): row for row in parquet.read_table(file).to_pylist()}


def _pairs(folder: Path) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    from pyarrow import parquet

    for split in ("train", "valid", "test"):
        file = folder / f"{split}.parquet"
        if file.is_file():
            for row in parquet.read_table(file).to_pylist():
                if int(row["label"]) == 1:
                    yield ("tableA", str(row["ltable_id"])), ("tableB", str(row["rtable_id"]))


def _components(pairs: list[tuple[tuple[str, str], tuple[str, str]]]) -> dict[tuple[str, str], str]:
    """Product -> a name of all that pairs connect it with."""
    above: dict[tuple[str, str], tuple[str, str]] = {}

    def root(place: tuple[str, str]) -> tuple[str, str]:
        while above.setdefault(place, place) != place:
            place = above[place]
        return place

    for left, right in pairs:
        above[max(root(left), root(right))] = min(root(left), root(right))
    return {place: "".join(root(place)) for place in list(above)}


def _features(row: dict[str, Any]) -> dict[str, str]:
    def text(*names: str) -> str:
        return next((" ".join(str(row[n]).split()) for n in names if row.get(n)), "")

    return {
        "title": text("title", "name"),
        "features": text("description"),
        "category": text("category"),
        "brand": text("brand", "manufacturer"),
        "modelno": text("modelno"),
        "price": text("price"),
    }
