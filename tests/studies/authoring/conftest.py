"""Packages made for the tests: products and reviews of this project's own, in the places of the real ones."""

from __future__ import annotations

import csv
import io
import random
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from minilm_lab.studies.authoring import packages

KINDS = {"Lamps": ("lamp", "light"), "Sofas": ("sofa", "seat"), "Desks": ("desk", "drawer")}


def some_words(seed: int, count: int) -> str:
    """Words that no other product has all of: products whose texts are near each other would be left out as copies."""
    draw = random.Random(seed)
    return " ".join(
        "".join(draw.choice(pair) for pair in ("bdklmn", "aeiou", "rstvx", "aeiou")) for _ in range(count)
    )


def product(number: int) -> dict[str, str]:
    kind = list(KINDS)[number % 3]
    word, part = KINDS[kind]
    return {
        "Sub Category": kind,
        "Price": f"${10 + number}.99 ",
        "Discount": "",
        "Rating": f"Rated {number % 5}.5 out of 5 stars based on {number} reviews." if number % 4 else "",
        "Title": f"Acme {word} {some_words(number, 5)} X{number}" + (" " if number % 2 else ""),
        "Currency": "$",
        "Feature": f"Good {part} X{number}   {some_words(1000 + number, 12)}\n{some_words(2000 + number, 12)}",
    }


@pytest.fixture
def shops(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """60 products of three kinds and a copy of one; 50 reviews, a copy and an empty one; returns a cache folder."""
    rows = [product(n) for n in range(60)]
    rows += [
        {**rows[7], "Title": rows[7]["Title"].upper()},
        {**rows[1], "Sub Category": "Rare", "Title": "Odd"},
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    reviews = [
        f"I {'love' if n % 5 else 'return'} this dress number {n} {some_words(3000 + n, 12)}"
        for n in range(50)
    ]
    frame = pd.DataFrame(
        {
            "Review Text": [*reviews, reviews[3].upper(), None],
            "Title": [*(f"Head {n}" if n % 2 else None for n in range(50)), "Copy", "Empty"],
            "Department Name": ["Dresses"] * 52,
            "Recommended IND": [*(int(n % 5 > 0) for n in range(50)), 1, 1],
        }
    )
    parquet = io.BytesIO()
    frame.to_parquet(parquet)
    archives = {}
    for package, content in (
        (packages.ELECTRONICS, text.getvalue().encode()),
        (packages.CLOTHING, parquet.getvalue()),
    ):
        archives[package[0]] = tmp_path / f"{package[0]}.whl"
        with zipfile.ZipFile(archives[package[0]], "w") as wheel:
            wheel.writestr(package[1], content)
    monkeypatch.setattr(packages, "download", lambda requirement, cache: archives[requirement])
    return tmp_path
