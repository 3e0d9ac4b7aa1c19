"""The splits of a task: what their checksum depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from minilm_lab.data.splits import Splits, is_labelled, references, table, texts

ROWS = {"id": ["a", "b"], "text": ["x", "y"], "label": [0, 1]}
SPLITS = Splits(table(**ROWS), table(**ROWS), ["no", "yes"])


def test_the_checksum_is_of_the_content(tmp_path: Path) -> None:
    first = SPLITS.checksum()
    SPLITS.train.save_to_disk(tmp_path / "train")
    reread = type(SPLITS.train).load_from_disk(str(tmp_path / "train"))
    assert replace(SPLITS, train=reread, data_note="another").checksum() == first
    assert replace(SPLITS, train=table(**{**ROWS, "id": ["c", "d"]})).checksum() == first
    picked = table(id="abc", text="xzy", label=[0, 5, 1]).select([0, 2])
    assert replace(SPLITS, train=picked).checksum() == first


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ["yes", "no"]},
        {"extra": {"test": SPLITS.dev}},
        {"dev": table(**ROWS, gold=[0, 1])},
        {"dev": table(**ROWS, group=["fr", "en"])},
        {"train": table(**{**ROWS, "label": [1, 0]})},
        {"train": table(**{**ROWS, "text": ["x", "z"]})},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_part_of_the_content_counts(change: dict[str, object]) -> None:
    assert replace(SPLITS, **change).checksum() != SPLITS.checksum()  # type: ignore[arg-type]


def test_what_the_columns_mean() -> None:
    pairs = table(id=["a"], text=["x"], pair=["y"], label=[1], gold=[0.5])
    assert list(texts(SPLITS.train)) == [("x", None), ("y", None)] and list(texts(pairs)) == [("x", "y")]
    assert references(pairs) == [0.5] and references(SPLITS.dev) == [0, 1]
    assert is_labelled(pairs) and not is_labelled(pairs.remove_columns("label"))
