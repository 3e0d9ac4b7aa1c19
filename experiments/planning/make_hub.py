"""Write a stand-in for the hub at the papers' sizes, to time what a dry run of a whole table costs.

python experiments/planning/make_hub.py <folder>: <folder>/hub holds Wikipedia and books (some 300 MB of random words), GLUE and SQuAD 2.0
at their official sizes; <folder>/home is a cache of the hub's client with the configurations of the three teachers, no weights.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

RNG = np.random.default_rng(0)
ENDS = ("n", "st", "r", "lly", "ment", "d", "ing", "")
WORDS = np.array([a + b + c for a in "bcdfglmnprst" for b in "aeiou" for c in ENDS])
#: Task -> examples of its splits, its columns with their mean number of words, its classes.
GLUE: dict[str, tuple[dict[str, int], dict[str, int], int]] = {
    "mnli": ({"train": 392702, "validation_matched": 9815, "validation_mismatched": 9832}, {"premise": 20, "hypothesis": 10}, 3),
    "qnli": ({"train": 104743, "validation": 5463}, {"question": 10, "sentence": 27}, 2),
    "qqp": ({"train": 363846, "validation": 40430}, {"question1": 11, "question2": 11}, 2),
    "rte": ({"train": 2490, "validation": 277}, {"sentence1": 45, "sentence2": 9}, 2),
    "sst2": ({"train": 67349, "validation": 872}, {"sentence": 9}, 2),
    "mrpc": ({"train": 3668, "validation": 408}, {"sentence1": 20, "sentence2": 20}, 2),
    "cola": ({"train": 8551, "validation": 1043}, {"sentence": 8}, 2),
}  # fmt: skip
SHAPES = {
    "base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}
BERT = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "hidden_act": "gelu",
    "type_vocab_size": 2,
}
ROBERTA = {**BERT, "model_type": "roberta", "architectures": ["RobertaForMaskedLM"], "type_vocab_size": 1}
TEACHERS: dict[str, dict[str, Any]] = {
    "google-bert/bert-base-uncased": {
        **BERT,
        **SHAPES["base"],
        "vocab_size": 30522,
        "max_position_embeddings": 512,
    },
    "google-bert/bert-large-uncased": {
        **BERT,
        **SHAPES["large"],
        "vocab_size": 30522,
        "max_position_embeddings": 512,
    },
    "FacebookAI/roberta-large": {
        **ROBERTA,
        **SHAPES["large"],
        "vocab_size": 50265,
        "max_position_embeddings": 514,
    },
}
COMMIT = "0" * 40


def texts(count: int, mean: int) -> list[str]:
    """Random words; the number of them a text is Poisson's."""
    lengths = np.maximum(3, RNG.poisson(mean, count))
    drawn = RNG.choice(WORDS, lengths.sum())
    return [" ".join(part) for part in np.split(drawn, lengths.cumsum()[:-1])]


def write(path: Path, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path, compression=None)


def card(folder: Path, configs: dict[str, dict[str, str]]) -> None:
    """A README.md that names the files of each configuration and split, as the hub has them."""
    lines = ["---", "configs:"]
    for name, files in configs.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        lines += [
            line for split, glob in files.items() for line in (f"  - split: {split}", f"    path: {glob}")
        ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")


def corpora(hub: Path) -> None:
    for number in range(24):
        name = f"train-{number:05d}-of-00024.parquet"
        write(hub / "wikimedia/wikipedia/20231101.en" / name, text=texts(4000, 450))
    card(hub / "wikimedia/wikipedia", {"20231101.en": {"train": "20231101.en/train-*"}})
    for number in range(4):
        write(hub / f"rojagtap/bookcorpus/data/train-{number:05d}-of-00004.parquet", text=texts(250_000, 14))
    card(hub / "rojagtap/bookcorpus", {"default": {"train": "data/train-*"}})


def glue(hub: Path) -> None:
    for name, (sizes, columns, classes) in GLUE.items():
        for split, size in sizes.items():
            content = {column: texts(size, mean) for column, mean in columns.items()}
            labels = {"label": RNG.integers(0, classes, size), "idx": np.arange(size)}
            write(hub / f"nyu-mll/glue/{name}/{split}-00000-of-00001.parquet", **content, **labels)
    card(hub / "nyu-mll/glue", {n: {s: f"{n}/{s}-*" for s in sizes} for n, (sizes, _, _) in GLUE.items()})


def squad(hub: Path) -> None:
    for split, size in (("train", 130319), ("validation", 11873)):
        contexts, answers = texts(size // 6 + 1, 117), []
        for number in range(size):
            words = contexts[number // 6].split(" ")
            first = int(RNG.integers(0, len(words) - 2))
            start = len(" ".join(words[:first])) + (first > 0)
            given = number % 3 > 0  # a third has no answer
            text = [" ".join(words[first : first + 2])] if given else []
            answers.append({"text": text, "answer_start": [start] if given else []})
        write(
            hub / f"rajpurkar/squad_v2/squad_v2/{split}-00000-of-00001.parquet",
            id=[f"q{number}" for number in range(size)],
            title=["T"] * size,
            context=[contexts[number // 6] for number in range(size)],
            question=texts(size, 10),
            answers=answers,
        )
    card(hub / "rajpurkar/squad_v2", {"squad_v2": {s: f"squad_v2/{s}-*" for s in ("train", "validation")}})


def teachers(cache: Path) -> None:
    for name, config in TEACHERS.items():
        place = cache / f"models--{name.replace('/', '--')}"
        for folder in (place / "refs", place / "snapshots" / COMMIT):
            folder.mkdir(parents=True, exist_ok=True)
        (place / "refs" / "main").write_text(COMMIT)
        (place / "snapshots" / COMMIT / "config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    into = Path(sys.argv[1])
    corpora(into / "hub")
    glue(into / "hub")
    squad(into / "hub")
    teachers(into / "home" / "hub")
    print(f"{into}/hub for paths.hub, {into}/home for HF_HOME")
