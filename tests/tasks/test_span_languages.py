"""Questions in several languages: which data is read, by which rule answers are compared, what is averaged."""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from minilm_lab.config import build
from minilm_lab.errors import LabError
from minilm_lab.tasks.span_languages import CrossLingualSpans
from tasks.helpers import featurized, judged, pairs_of

from . import span_reference

CONF = Path(__file__).parents[2] / "conf/task"
GERMAN = ("Wer kam?", "Gestern kam der alte Mann nach Hause.", "der alte Mann")
CHINESE = ("谁统一了中国？", "公元前221年，秦始皇统一了中国。", "秦始皇")


def hub_row(number, question, context, answer):
    return {
        "id": f"{number}",
        "question": question,
        "context": context,
        "answers": {"text": [answer], "answer_start": [context.index(answer)]},
    }


def squad_file(file, cases):
    qas = [
        {
            "context": c,
            "qas": [{"id": f"{n}", "question": q, "answers": [{"text": a, "answer_start": c.index(a)}]}],
        }
        for n, (q, c, a) in enumerate(cases)
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"version": "1.0", "data": [{"title": "t", "paragraphs": qas}]}))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def hub(tmp_path):
    """SQuAD, and XQuAD in German and Chinese, in the hub's layout."""
    squad = tmp_path / "hub/rajpurkar/squad"
    span_reference.write_squad(squad, sizes=(6, 4), unanswerable=0.0)
    folder = tmp_path / "hub/google/xquad"
    configs = ""
    for language, case in (("de", GERMAN), ("zh", CHINESE)):
        (folder / f"xquad.{language}").mkdir(parents=True)
        rows = [hub_row(n, *case) for n in range(3)]
        pd.DataFrame(rows).to_parquet(folder / f"xquad.{language}/validation-0.parquet")
        configs += (
            f"- config_name: xquad.{language}\n  data_files:\n"
            f"  - split: validation\n    path: xquad.{language}/validation-*\n"
        )
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    return str(tmp_path / "hub")


def load_config(name, **fields):
    node = OmegaConf.load(CONF / f"{name}.yaml")
    return build(OmegaConf.merge(node, fields), "task")


def test_xquad_of_the_languages_that_are_there(hub, cache, caplog):
    task = load_config("xquad", languages=["de", "en", "zh"])
    with caplog.at_level(logging.WARNING):
        splits = task.load(hub, cache)
    assert list(splits.extra) == ["de", "zh"]
    assert pairs_of(splits.extra["zh"])[0] == CHINESE[:2]
    assert splits.data_note == (
        "subset: train 6 of 87,599, dev 4 of 10,570; de 3 of 1,190; zh 3 of 1,190; no test data: en (1 of 3)"
    )
    assert "google/xquad has no data for en: not scored" in caplog.text
    with pytest.raises(
        LabError, match=r"task.languages=\['en', 'ar'\]: google/xquad has data for none of them"
    ):
        load_config("xquad", languages=["en", "ar"]).load(hub, cache)


def test_a_folder_with_the_authors_files(hub, cache, tmp_path):
    folder = tmp_path / "MLQA_V1"
    squad_file(folder / "dev/dev-context-en-question-en.json", [("Who?", "The cat sat.", "The cat")])
    squad_file(folder / "test/test-context-de-question-de.json", [GERMAN])
    squad_file(folder / "test/test-context-de-question-zh.json", [(CHINESE[0], *GERMAN[1:])] * 1)
    fields = {
        "dev_path": str(folder / "dev/dev-context-en-question-en.json"),
        "test_path": str(folder),
        "languages": ["de", "zh"],
        "length": 384,
    }
    task = load_config("mlqa", **fields)
    splits = task.load(hub, cache)
    assert list(splits.extra) == ["de"]
    assert splits.dev["gold"][:] == [["The cat"]]
    crossed = load_config("mlqa", **fields, question_languages=["de", "zh"]).load(hub, cache)
    assert list(crossed.extra) == ["de", "de-zh"]
    assert pairs_of(crossed.extra["de-zh"]) == [(CHINESE[0], GERMAN[1])]
    assert "no test data: zh-de, zh (2 of 4)" in crossed.data_note
    assert task.identity() == load_config("mlqa", languages=["de", "zh"], length=384).identity()


def outcome(task, examples, tokenizer, split, answer):
    """What the task makes of logits that choose the characters `answer` of every context."""
    features = featurized(task, examples, tokenizer, training=False)
    outputs = []
    for row, example in enumerate(features.example):
        begin = pairs_of(examples)[example][1].index(answer)
        places = features.offsets[row]
        inside = np.flatnonzero((places[:, 1] > begin) & (places[:, 0] < begin + len(answer)))
        logits = np.zeros((features.lengths[row], 2), dtype=np.float32)
        logits[features.context_at[row] + inside[0], 0] = 9.0
        logits[features.context_at[row] + inside[-1], 1] = 9.0
        outputs.append(logits)
    return judged(task, outputs, examples, features, split)


@pytest.mark.parametrize("normalisation, exact", [("mlqa", 100.0), ("squad", 0.0)])
def test_the_rule_is_that_of_the_contexts_language(normalisation, exact, hub, cache, tokenizer):
    task = load_config("xquad", languages=["de"], normalisation=normalisation)
    splits = task.load(hub, cache)
    found = outcome(task, splits.extra["de"], tokenizer, "de", "alte Mann")
    assert [row["prediction"] for row in found.rows] == ["alte Mann"] * 3
    assert found.scores["exact_match"] == exact
    assert set(found.files) == {"predictions_de.json", "nbest_de.json"}
    assert (task.rule("de-zh", []), task.rule("dev", [])) == (
        ("de", "en") if normalisation == "mlqa" else ("squad", "squad")
    )
    said = task.definitions({"f1": 0.0, "f1_de": 0.0, "f1_dev": 0.0, "exact_match": 0.0})
    assert ("MLQA" in said["f1_de"]) == (normalisation == "mlqa")
    assert "mean over the languages" in said["f1"] and "mean over the languages" not in said["f1_de"]


def test_the_headline_is_the_mean_over_the_languages():
    task = load_config("xquad")
    flat = task.combine(
        {
            "dev": {"f1": 80.0, "exact_match": 70.0},
            "de": {"f1": 60.0, "exact_match": 50.0},
            "zh": {"f1": 30.0, "exact_match": 20.0},
        }
    )
    assert flat == {
        "f1": 45.0,
        "exact_match": 35.0,
        "f1_de": 60.0,
        "exact_match_de": 50.0,
        "f1_zh": 30.0,
        "exact_match_zh": 20.0,
        "f1_dev": 80.0,
        "exact_match_dev": 70.0,
    }


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"languages": []}, r"task.languages=\[\]"),
        ({"languages": ["de", "de"]}, "one or more different"),
        ({"question_languages": []}, "task.question_languages"),
        ({"normalisation": "mqla"}, "Did you mean 'mlqa'"),
        ({"normalisation": "mlqa", "languages": ["fr"]}, "MLQA has no rule for 'fr'; it has: en, es"),
        ({"unanswerable": True}, "task.unanswerable=true has no meaning"),
        ({"test_path": ""}, "task.test_path must be given"),
    ],
)
def test_impossible_fields(fields, message):
    with pytest.raises(LabError, match=message):
        CrossLingualSpans(path="x", **{"test_path": "y", **fields})
