"""Fine-tuning from the command line's words to the record: scores are those of the saved predictions."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.finetune import plan

WORDS = ["cat", "mat", "two", "saw", "sat", "on", "the", "a"]


def run(words: list[str]) -> tuple[dict[str, Any], Path]:
    """Fine-tune in this process; the record and the run's folder."""
    ready = plan(compose_command("finetune", words))
    return ready.make(), ready.folder.path


def saved(folder: Path, split: str = "") -> pd.DataFrame:
    """predictions.jsonl, or predictions_<split>.jsonl."""
    name = f"predictions_{split}.jsonl" if split else "predictions.jsonl"
    return pd.DataFrame([json.loads(line) for line in (folder / name).read_text().splitlines()])


def rows(draw: random.Random, count: int) -> list[dict[str, Any]]:
    made = []
    for _ in range(count):
        words = draw.choices(WORDS, k=draw.randint(3, 9))
        kind = ["low", "high"][words.count("cat") + words.count("two") > 1]
        made.append({"text": " ".join(words), "label": kind, "value": words.count("cat") + draw.random()})
    return made


def layout(folder: Path, parts: dict[str, dict[str, list[dict[str, Any]]]]) -> Path:
    """A data set in the hub's layout: {configuration: {split: rows}}."""
    head = []
    for config, splits in parts.items():
        head.append(f"- config_name: {config}\n  data_files:\n")
        for split, made in splits.items():
            head.append(f"  - split: {split}\n    path: {config}/{split}-*\n")
            (folder / config).mkdir(parents=True, exist_ok=True)
            pd.DataFrame(made).to_parquet(folder / config / f"{split}-0.parquet")
    (folder / "README.md").write_text(f"---\nconfigs:\n{''.join(head)}---\n")
    return folder


@pytest.fixture
def words(tiny: list[str]) -> list[str]:
    return [*tiny, "source=teacher", "tune.batch_size=8", "tune.lr=1e-3", "scale.epochs=1", "task.length=24"]


def test_mismatched_dev_set_and_leaderboard_file(words: list[str], tmp_path: Path) -> None:
    draw = random.Random(1)
    data = layout(
        tmp_path / "data",
        {
            "mnli": {
                "train": rows(draw, 40),
                "validation_matched": rows(draw, 23),
                "validation_mismatched": rows(draw, 17),
                "test_matched": [{**row, "label": None} for row in rows(draw, 9)],
            }
        },
    )
    found, folder = run(
        [
            "task=mnli",
            *words,
            f"task.path={data}",
            "task.text=[text]",
            "task.labels=[low,high]",
            "task.metrics=[accuracy,matthews,f1]",
            "task.test=true",
            "~task.submissions",
            "+task.submissions={MNLI-m.tsv: test_matched}",
        ]
    )
    for split, suffix in (("", ""), ("mismatched", "_mismatched")):
        table = saved(folder, split)
        pair = (table["reference"], table["prediction"])
        assert found["scores"][f"accuracy{suffix}"] == pytest.approx(100 * accuracy_score(*pair))
        assert found["scores"][f"f1{suffix}"] == pytest.approx(100 * f1_score(*pair, zero_division=0))
        assert found["scores"][f"matthews{suffix}"] == pytest.approx(100 * matthews_corrcoef(*pair))
    assert found["score"]["value"] == found["scores"]["accuracy"]
    test = saved(folder, "MNLI-m")
    lines = (folder / "MNLI-m.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction"
    assert lines[1:] == [f"{n}\t{['low', 'high'][int(p)]}" for n, p in enumerate(test["prediction"])]
    assert len(lines) == 10 and "reference" not in test
    assert not any("MNLI-m" in name for name in found["scores"])


def test_languages(words: list[str], tmp_path: Path) -> None:
    draw = random.Random(2)
    parts = {"en": {"train": rows(draw, 40), "validation": rows(draw, 12), "test": rows(draw, 14)}}
    parts |= {
        name: {"validation": rows(draw, n), "test": rows(draw, 16)} for name, n in (("fr", 9), ("sw", 15))
    }
    data = layout(tmp_path / "data", parts)
    own = ["task=xnli", *words, f"task.path={data}", "task.text=[text]", "task.labels=[low,high]"]
    found, folder = run([*own, "task.languages=[en,fr,sw,ur]", "task.official={}"])
    for split, suffix in (("", ""), ("test", "_test")):
        table = saved(folder, split)
        right = (table["prediction"] == table["reference"]).groupby(table["id"].str.split("-").str[0]).mean()
        assert set(right.index) == {"en", "fr", "sw"}
        for language, share in right.items():
            assert found["scores"][f"accuracy_{language}{suffix}"] == pytest.approx(100 * share)
        assert found["scores"][f"accuracy{suffix}"] == pytest.approx(100 * right.mean())
    assert set(found["definitions"]) == set(found["scores"])
    assert "no dev data for 1 of 4 languages: ur" in found["data_note"]
    assert found["examples"]["test"] == 46


def test_a_regression_on_one_file(words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "data.tsv"
    pd.DataFrame(rows(random.Random(3), 90)).to_csv(file, sep="\t", index=False)
    found, folder = run(
        ["task=regression", *words, f"task.path={file}", "task.label=value", "task.dev_fraction=0.3"]
    )
    table = saved(folder)
    assert found["examples"] == {"train": 90 - len(table), "dev": len(table)}
    pair = (table["prediction"], table["reference"])
    assert found["scores"]["spearman"] == pytest.approx(100 * spearmanr(*pair).statistic)
    assert found["scores"]["pearson"] == pytest.approx(100 * pearsonr(*pair).statistic)


def test_named_entities(words: list[str], tmp_path: Path) -> None:
    draw = random.Random(4)
    folder = tmp_path / "data"
    folder.mkdir()
    for split, count in (("train", 60), ("validation", 21)):
        lines = []
        for _ in range(count):
            tokens = draw.choices(WORDS, k=draw.randint(3, 9))
            tags = ["B-PET" if word in ("cat", "mat") else "O" for word in tokens]
            lines.append(json.dumps({"tokens": tokens, "tags": tags}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))
    kept = [word for word in words if not word.startswith("scale.epochs")]
    found, made = run(
        ["task=token_classification", *kept, f"task.path={folder}", "scale.epochs=30", "tune.lr=1e-3"]
    )
    table = saved(made)
    pairs = [
        pair
        for p, e in zip(table["prediction"], table["reference"], strict=True)
        for pair in zip(p, e, strict=True)
    ]
    # With entities of one word, the F1 of entities is that of words.
    right = sum(p == e == "B-PET" for p, e in pairs)
    given = sum(p == "B-PET" for p, _ in pairs) + sum(e == "B-PET" for _, e in pairs)
    assert found["scores"]["entity_f1"] == pytest.approx(200 * right / given)
    assert found["scores"]["tag_accuracy"] == pytest.approx(100 * sum(p == e for p, e in pairs) / len(pairs))
    assert found["scores"]["entity_f1"] > 90, "chance gives 40 at most: it learned"
