"""A tiny teacher, a tiny corpus, tiny task data and a quick way to run commands."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from data.helpers import WORDS, wordpiece
from lab import Lab
from transformers import BertConfig, BertModel


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests share the machine, and one thread gives the same sums everywhere."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Runs commands."""
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random BERT with its tokenizer: 4 layers, hidden size 48, 4 heads, 64 positions, dropout 0.1."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = wordpiece()
    config = BertConfig(
        vocab_size=len(tokenizer),
        num_hidden_layers=4,
        hidden_size=48,
        num_attention_heads=4,
        intermediate_size=192,
        max_position_embeddings=64,
        # Larger than usual: relations of a random model are nearly uniform otherwise.
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(17)
        model = BertModel(config)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text file of 60 lines, each a document: about 80 blocks of 16 tokens."""
    file = tmp_path_factory.mktemp("text") / "tiny.txt"
    draw = random.Random(5)
    lines = [" ".join(draw.choice(WORDS) for _ in range(draw.randint(6, 20))) + "." for _ in range(80)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def tiny_task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with train.csv (50 rows) and validation.csv (21 rows): text, label (cat, dog), score."""
    folder = tmp_path_factory.mktemp("task")
    draw = random.Random(6)
    for split, rows in (("train", 50), ("validation", 21)):
        lines = ["text,label,score"]
        for _ in range(rows):
            words = [draw.choice(WORDS) for _ in range(draw.randint(4, 12))]
            score = (words.count("cat") + words.count("rain") - words.count("mat")) / 2
            label = "cat" if words[0] < "on" else "dog"
            lines.append(f"{' '.join(words)},{label},{score + draw.random() / 10:.3f}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def tiny(tiny_teacher: Path, tiny_corpus: Path, tmp_path: Path) -> list[str]:
    """Overrides of a distillation that takes a second: 4 layers to 2, about two epochs in 16 steps."""
    return [
        "teacher=path",
        f"teacher.path={tiny_teacher}",
        "student=half_depth",
        "objective.heads=12",
        "corpus=path",
        f"corpus.path={tiny_corpus}",
        "scale.steps=16",
        "scale.batch_size=8",
        "scale.length=16",
        "optim.lr=1e-3",
        "optim.warmup=0.1",
        "impl.threads=1",
        "impl.precision=32",
        "trainer.log_every=1",
        "logger=none",
        f"paths.runs={tmp_path / 'runs'}",
        f"paths.cache={tmp_path / 'cache'}",
    ]


@pytest.fixture
def tiny_tune(tiny_task: Path) -> list[str]:
    """What `finetune` needs beside `tiny`: two epochs of classification, 7 steps each."""
    return [
        "task=classification",
        f"task.path={tiny_task}",
        "task.length=24",
        "tune.batch_size=8",
        "tune.lr=1e-3",
        "scale.epochs=2",
    ]


@pytest.fixture
def make_run(tmp_path: Path, tiny_teacher: Path) -> Callable[..., Path]:
    """Writes the folder of a run in `tmp_path/runs`; with `product`, the tiny teacher stands in for its model."""

    def make(
        slug: str,
        identity: str,
        *,
        command: str = "distill",
        product: str | None = "student",
        state: str = "COMPLETED",
        **record: Any,
    ) -> Path:
        folder = tmp_path / "runs" / command / f"{slug}-{identity}"
        folder.mkdir(parents=True)
        (folder / "status.json").write_text(json.dumps({"state": state}))
        if state == "COMPLETED":
            about = {"command": command, "identity": identity, "name": slug, **record}
            (folder / "result.json").write_text(json.dumps(about))
        if product is not None:
            shutil.copytree(tiny_teacher, folder / product)
        return folder

    return make


@pytest.fixture(scope="session")
def shared_hub() -> str:
    """The local copy of hub data sets that belongs to the project; absent on other machines."""
    default = Path(__file__).resolve().parents[2] / "shared"
    hub = Path(os.environ.get("MINILM_LAB_SHARED", default)) / "hub"
    if not hub.is_dir():
        pytest.skip(f"no data in {hub} (set MINILM_LAB_SHARED)")
    return str(hub)
