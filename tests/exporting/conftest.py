"""Runs as `distill` leaves them, and pairs of texts with a similarity."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from data.helpers import WORDS

from minilm_lab.tasks.hub import HubTask

MakeRun = Callable[..., Path]


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with train.csv and validation.csv (12 pairs): first, second, similarity (share of common words)."""
    folder = tmp_path_factory.mktemp("pairs")
    draw = random.Random(3)
    for split in ("train", "validation"):
        lines = ["first,second,similarity"]
        for _ in range(12):
            first = [draw.choice(WORDS) for _ in range(draw.randint(2, 12))]
            second = [draw.choice([*WORDS, *first, *first]) for _ in range(draw.randint(2, 12))]
            similarity = len(set(first) & set(second)) / len(set(first) | set(second))
            lines.append(f"{' '.join(first)},{' '.join(second)},{similarity}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def similarity(pairs: Path) -> HubTask:
    """The task on `pairs`."""
    return task_on(pairs)


def task_on(folder: Path) -> HubTask:
    return HubTask(
        name="alike",
        kind="regression",
        path=str(folder),
        text=["first", "second"],
        label="similarity",
        metrics=["spearman"],
        score="spearman",
    )
