"""Data sets made for a test."""

import json

import pandas as pd

from minilm_lab.data import splits
from minilm_lab.data.splits import references, table

__all__ = ["featurized", "judged", "make_split", "pairs_of", "references"]

ROWS = {
    "train": [("a", "b", "yes"), ("c, d", 'e "f"', "no"), ("g", "h", "no"), ("ü", "i", "yes")],
    "validation": [("k", "l", "no"), ("m", "n", "yes")],
}
PAIR = {"text": ["premise", "hypothesis"], "label": "gold"}


def write(folder, suffix="jsonl", rows=ROWS, names=("premise", "hypothesis", "gold")):
    """One file for each split, named after it."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, part in rows.items():
        table = pd.DataFrame(part, columns=list(names))
        path = folder / f"{split}.{suffix}"
        if suffix == "jsonl":
            path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in part))
        elif suffix == "parquet":
            table.to_parquet(path)
        else:
            table.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    return str(folder)


def labelled(folder, train, dev=None):
    """Texts "t0", "t1", … with these labels."""
    splits = {"train": train, "validation": dev or train}
    rows = {split: [(f"t{n}", label) for n, label in enumerate(labels)] for split, labels in splits.items()}
    return write(folder, rows=rows, names=("text", "label"))


def in_hub_layout(root, splits=ROWS):
    """<root>/someone/pairs with the configurations "ab" and "cd"."""
    folder = root / "someone" / "pairs"
    for config in ("ab", "cd"):
        write(
            folder / config,
            "parquet",
            {s: [(config + a, b, g) for a, b, g in rows] for s, rows in splits.items()},
        )
    files = "".join(
        f"- config_name: {config}\n  data_files:\n"
        + "".join(f"  - split: {split}\n    path: {config}/{split}*\n" for split in splits)
        for config in ("ab", "cd")
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{files}---\n")
    return folder


def make_split(pairs, labels, ids, gold=None, groups=None):
    """A split of (text, pair or None), as readers make it."""
    second = [pair for _, pair in pairs]
    return table(
        id=ids,
        text=[text for text, _ in pairs],
        pair=None if None in second else second,
        label=labels,
        gold=gold,
        group=groups,
    )


def pairs_of(split):
    """(text, None) or (text, pair) of each row."""
    return list(splits.texts(split))


def featurized(task, split, tokenizer, labels=None, training=False):
    """The features of a split."""
    return task.features(splits.Splits(split, split, labels), "train" if training else "dev", tokenizer)


def judged(task, outputs, split, features, name="dev", labels=None):
    """What a task makes of outputs for a split."""
    extra = {} if name == "dev" else {name: split}
    return task.judge(outputs, features, splits.Splits(split, split, labels, extra=extra), name)
