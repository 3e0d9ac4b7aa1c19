"""Products that two shops name, from a folder in the layout of the entity-matching sets."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from minilm_lab.errors import LabError
from minilm_lab.studies.authoring import shops
from minilm_lab.studies.authoring.gathering import gather


def write(folder: Path) -> Path:
    """60 products in each shop; the first ten are pairs, and product 0 is in two of them."""
    place = folder / "walmart_amazon"
    place.mkdir(parents=True)
    columns = ["id", "title", "category", "brand", "modelno", "price"]
    for table, word in (("tableA", "left"), ("tableB", "right")):
        category = "" if table == "tableA" else "lamps"
        rows = [[str(n), f"acme {word} x{n}", category, "acme", f"x{n}", "9"] for n in range(60)]
        pd.DataFrame(rows, columns=columns).to_parquet(place / f"{table}.parquet")
    pairs = [[str(n), str(n), "1"] for n in range(10)] + [["0", "11", "1"], ["20", "20", "0"]]
    for split, some in (("train", pairs[:8]), ("valid", pairs[8:]), ("test", [])):
        frame = pd.DataFrame(some, columns=["ltable_id", "rtable_id", "label"])
        frame.to_parquet(place / f"{split}.parquet")
    return folder


def test_pairs_are_gold_titles(tmp_path: Path) -> None:
    things, categories, notes = shops.read(write(tmp_path))
    assert categories == ["lamps"]
    assert notes == [
        "walmart_amazon: 110 products, 10 named by two shops",
        "1 further pairs of the same products left out",
    ]
    data = gather(str(tmp_path), None, tmp_path, 0.3, True)
    rewriting = [r for r in (*data.train, *data.dev) if r.task == "rewriting"]
    assert len(rewriting) == 10
    for record in rewriting:
        number = record.value("modelno")
        assert record.value("title") == f"acme left {number}" and record.output == f"acme right {number}"
        assert record.value("query") == "right"
    # Product 11 of the second shop is the same as product 0 of the first: on one side.
    ids = {thing.features["title"]: thing.id for thing in things}
    assert ids["acme right x11"] == ids["acme left x0"] != ids["acme left x1"]
    classes = [r for r in (*data.train, *data.dev) if r.task == "classification"]
    assert len(classes) == 50 and {r.output for r in classes} == {"lamps"}
    assert len(shops.unlabelled(tmp_path)) == 60  # of the first shop, pairs among them


def test_what_is_no_hub_is_said(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(LabError, match="neither"):
        gather(str(tmp_path / "x"), None, tmp_path, 0.3, True)
    write(tmp_path / "y")
    (tmp_path / "y" / "walmart_amazon" / "tableB.parquet").unlink()
    with pytest.raises(LabError, match="not whole"):
        gather(str(tmp_path / "y"), None, tmp_path, 0.3, True)


def test_the_real_sets(shared_hub: str) -> None:
    folder = Path(shared_hub) / "ecommerce"
    if not shops.is_there(folder):
        pytest.skip(f"{folder} holds no e-commerce sets")
    things, categories, _ = shops.read(folder)
    assert len(things) > 20_000 and len(categories) > 40
    assert sum(thing.rewritten is not None for thing in things) > 1_000
    assert len(shops.unlabelled(folder)) > 10_000
