"""Fine-tuning on questions: it learns, its record is that of its files, the saved model says the same, it resumes."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data.helpers import WORDS, byte_bpe
from lab import Lab
from tasks import span_reference
from torch.nn import functional as F
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    BertConfig,
    BertForTokenClassification,
    DistilBertConfig,
    DistilBertModel,
    RobertaConfig,
    RobertaModel,
)

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.finetune import plan
from minilm_lab.data.loading import eval_batches
from minilm_lab.errors import LabError
from minilm_lab.tasks.features import IGNORED, Features
from minilm_lab.tasks.module import SpanExtraction, TokenClassification

from .helpers import column, kill_at, lines, only_run

SQUAD_V2 = (
    "task.metrics=[f1,exact_match,has_ans_f1,has_ans_exact_match,no_ans_f1,no_ans_exact_match,"
    "f1_untuned,exact_match_untuned]"
)


def rain(questions: int, seed: int) -> dict[str, Any]:
    """SQuAD's format; the answer is always the word "rain", and a context without it has none."""
    draw = random.Random(seed)
    paragraphs = []
    for number in range(questions):
        words = [draw.choice([w for w in WORDS if w != "rain"]) for _ in range(draw.randint(6, 40))]
        if number % 3:
            words[draw.randrange(len(words))] = "rain"
        context = " ".join(words)
        answers = [{"text": "rain", "answer_start": f" {context} ".index(" rain ")}] if number % 3 else []
        qa = {"id": f"q{seed}-{number}", "question": "and what fell?", "answers": answers}
        paragraphs.append({"context": context, "qas": [qa]})
    return {"version": "v2.0", "data": [{"title": "rain", "paragraphs": paragraphs}]}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with train-v2.0.json (70 questions) and dev-v2.0.json (21)."""
    folder = tmp_path / "rain"
    folder.mkdir()
    for seed, (name, count) in enumerate((("train", 70), ("dev", 21))):
        (folder / f"{name}-v2.0.json").write_text(json.dumps(rain(count, seed)))
    return folder


@pytest.fixture
def words(tiny: list[str], data: Path) -> list[str]:
    """Overrides: windows of at most 36 tokens, so that some contexts need two."""
    return [
        *tiny,
        "task=span_qa",
        f"task.path={data}",
        "task.unanswerable=true",
        "task.length=36",
        "task.max_question=12",
        "task.stride=8",
        "tune.batch_size=8",
        "tune.lr=2e-3",
        "scale.epochs=3",
        SQUAD_V2,
    ]


def run(words: Sequence[str], *more: str) -> tuple[dict[str, Any], Path]:
    """Fine-tune in this process; the record and the run's folder."""
    ready = plan(compose_command("finetune", [*words, *more]))
    return ready.make(), ready.folder.path


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def test_it_learns_and_its_record_is_that_of_its_files(words: list[str], data: Path) -> None:
    found, folder = run(words, "source=teacher", "scale.epochs=8")
    official = span_reference.evaluate(read(data, "dev-v2.0.json"), read(folder, "predictions.json"))
    ours = {"exact": "exact_match", "f1": "f1"}
    for part, prefix in (("", ""), ("HasAns_", "has_ans_"), ("NoAns_", "no_ans_")):
        for theirs, name in ours.items():
            assert found["scores"][prefix + name] == pytest.approx(official[part + theirs])
    assert found["score"] == {"name": "f1", "value": found["scores"]["f1"]}
    # Of 21 questions 7 have no answer: answering none gives 33.3.
    assert found["scores"]["f1"] > 80
    assert found["history"][-1]["f1"] == found["scores"]["f1"]
    details = found["details"]["dev"]
    assert details["windows"] > 21
    assert details["null_threshold_chosen"] == "for the best F1 on dev"
    assert "TUNED ON DEV" in found["definitions"]["f1"]
    assert found["examples"] == {"train": 70, "dev": 21}
    assert len(read(folder, "nbest.json")) == len(read(folder, "null_odds.json")) == 21
    assert len((folder / "predictions.jsonl").read_text().splitlines()) == 21
    losses = column(folder, "loss")
    assert sum(losses[-8:]) < sum(losses[:8]) / 2


@pytest.mark.parametrize("select", ["best", "last"])
def test_the_saved_model_gives_the_saved_answers(words: list[str], data: Path, select: str) -> None:
    found, folder = run(words, "source=teacher", f"tune.select={select}", "tune.save_model=true")
    model = AutoModelForQuestionAnswering.from_pretrained(folder / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    best = read(folder, "nbest.json")
    checked = 0
    for paragraph in read(data, "dev-v2.0.json")["data"][0]["paragraphs"]:
        (question,) = paragraph["qas"]
        inputs = tokenizer(question["question"], paragraph["context"], return_tensors="pt")
        if inputs["input_ids"].shape[1] > 36:
            continue  # several windows
        with torch.no_grad():
            out = model(**inputs)
        inside = [n for n, part in enumerate(inputs.sequence_ids()) if part == 1]
        scores = [
            float(out.start_logits[0, i] + out.end_logits[0, j]) for i in inside for j in inside if i <= j
        ]
        (null,) = [entry["score"] for entry in best[question["id"]] if not entry["text"]]
        assert null == pytest.approx(float(out.start_logits[0, 0] + out.end_logits[0, 0]), abs=1e-3)
        first = next(entry for entry in best[question["id"]] if entry["text"])
        assert first["score"] == pytest.approx(max(scores), abs=1e-3)
        checked += 1
    assert checked > 5
    epoch = (
        max(found["history"], key=lambda scores: scores["f1"]) if select == "best" else found["history"][-1]
    )
    assert found["scores"] == epoch


@pytest.mark.slow
def test_a_run_killed_in_its_second_epoch_ends_the_same(lab: Lab, words: list[str], tmp_path: Path) -> None:
    words = ["finetune", *words, "source=teacher", "tune.select=best", "tune.save_model=true"]
    words += ["trainer.checkpoint_every=3", "scale.epochs=2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finished = lab.run(*words, f"paths.runs={whole}")
    assert finished.code == 0, finished.err
    steps = len(column(only_run(whole, "finetune"), "loss"))
    running = lab.start(*words, f"paths.runs={killed}")
    kill_at(running, killed, "finetune", steps // 2 + 5)
    running.finish()
    assert not (only_run(killed, "finetune") / "result.json").exists(), "killed too late"
    finished = lab.run(*words, f"paths.runs={killed}")
    assert finished.code == 0, finished.err
    assert "resuming" in finished.err
    one, other = only_run(whole, "finetune"), only_run(killed, "finetune")
    assert lines(one) == lines(other)
    for file in (
        "predictions.jsonl",
        "predictions.json",
        "nbest.json",
        "null_odds.json",
        "model/model.safetensors",
    ):
        assert (one / file).read_bytes() == (other / file).read_bytes()
    assert read(one, "result.json")["scores"] == read(other, "result.json")["scores"]


def test_other_languages_are_scored_with_the_epoch_that_counts(words: list[str], data: Path) -> None:
    for seed, language in enumerate(("de", "zh")):
        (data / f"{language}.json").write_text(json.dumps(rain_everywhere(9, 5 + seed)))
    (data / "train-v2.0.json").write_text(json.dumps(rain_everywhere(40, 0)))
    (data / "dev-v2.0.json").write_text(json.dumps(rain_everywhere(9, 1)))
    kept = [word for word in words if word not in ("task=span_qa", "task.unanswerable=true", SQUAD_V2)]
    more = [f"task.test_path={data}", "task.test_file=CONTEXT.json", "task.languages=[de,en,zh]"]
    found, folder = run(["task=xquad", *kept, *more], "source=teacher", "tune.select=best")
    scores = found["scores"]
    assert list(scores) == [
        f"{name}{split}" for split in ("", "_de", "_zh", "_dev") for name in ("f1", "exact_match")
    ]
    assert scores["f1"] == pytest.approx((scores["f1_de"] + scores["f1_zh"]) / 2)
    assert found["score"]["value"] == scores["f1"]
    # Chosen on dev alone, whatever the languages say.
    dev = [epoch["f1"] for epoch in found["history"]]
    assert scores["f1_dev"] == max(dev)
    assert found["selection"] == f"epoch {dev.index(max(dev)) + 1} of 3 (best on dev)"
    assert found["examples"] == {"train": 40, "dev": 9, "de": 9, "zh": 9}
    assert "no test data: en (1 of 3)" in found["data_note"]
    for language in ("de", "zh"):
        official = span_reference.evaluate(
            read(data, f"{language}.json"), read(folder, f"predictions_{language}.json")
        )
        assert scores[f"f1_{language}"] == pytest.approx(official["f1"])
        assert (folder / f"predictions_{language}.jsonl").is_file()
    measured = [line for line in lines(folder) if "dev" in line]
    better = [n for n, value in enumerate(dev) if value > max(dev[:n], default=-1)]
    assert [n for n, line in enumerate(measured) if "de" in line] == better


def rain_everywhere(questions: int, seed: int) -> dict[str, Any]:
    """The questions of `rain` that have an answer."""
    data = rain(2 * questions, seed)
    paragraphs = data["data"][0]["paragraphs"]
    data["data"][0]["paragraphs"] = [p for p in paragraphs if p["qas"][0]["answers"]][:questions]
    return data


def test_accumulation_sees_the_same_windows(words: list[str], tmp_path: Path) -> None:
    """Padding differs between one batch and its two halves: it must not count."""
    teacher = next(word for word in words if word.startswith("teacher.path=")).partition("=")[2]
    folder = tmp_path / "quiet"
    folder.mkdir()
    for file in Path(teacher).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = read(folder, "config.json") | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    losses = [
        column(
            run(
                words,
                f"source={folder}",
                "scale.epochs=1",
                f"paths.runs={tmp_path / str(parts)}",
                f"trainer.accumulate={parts}",
            )[1],
            "loss",
        )
        for parts in (1, 2)
    ]
    assert losses[1][:6] == pytest.approx(losses[0][:6], rel=1e-4)


def roberta(vocabulary: int) -> torch.nn.Module:
    return RobertaModel(
        RobertaConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=66,
            pad_token_id=1,
            type_vocab_size=1,
        )
    )


def distilbert(vocabulary: int) -> torch.nn.Module:
    return DistilBertModel(
        DistilBertConfig(
            vocab_size=vocabulary,
            dim=32,
            n_layers=2,
            n_heads=4,
            hidden_dim=64,
            max_position_embeddings=64,
            pad_token_id=1,
        )
    )


@pytest.mark.parametrize("make", [roberta, distilbert])
def test_models_without_segments(make: Any, words: list[str], tmp_path: Path) -> None:
    """<s> question </s></s> context </s>, no token_type_ids."""
    tokenizer = byte_bpe()
    folder = tmp_path / "model"
    torch.manual_seed(0)
    make(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    found, run_folder = run(words, f"source={folder}", "scale.epochs=1", "task.length=48")
    contexts = {
        p["qas"][0]["id"]: p["context"]
        for p in read(tmp_path / "rain", "dev-v2.0.json")["data"][0]["paragraphs"]
    }
    for line in (run_folder / "predictions.jsonl").read_text().splitlines():
        answer = json.loads(line)
        assert answer["best_span"] and answer["best_span"] in contexts[answer["id"]]
    assert 0 <= found["scores"]["f1"] <= 100


def test_a_length_beyond_the_models_positions(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"task.length=65 is beyond the 64 positions of path"):
        plan(compose_command("finetune", [*words, "source=teacher", "task.length=65"]))
    teacher = next(word for word in words if word.startswith("teacher.path=")).partition("=")[2]
    with pytest.raises(LabError, match=r"task.length=65 is beyond the 64 positions"):
        plan(compose_command("finetune", [*words, f"source={teacher}", "task.length=65"]))


def small_bert(outputs: int) -> BertConfig:
    return BertConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=outputs,
    )


def loss_of(module: Any, batch: Any) -> float:
    (loss,) = module.losses(batch).values()
    return float(loss)


def ragged(labels: Any) -> Features:
    ids = [np.arange(1, n + 1) for n in (4, 2, 6)]
    return Features(ids, None, labels, np.asarray([4, 2, 6]), pad_id=0)


def test_the_loss_of_spans_against_one_window_at_a_time() -> None:
    model = AutoModelForQuestionAnswering.from_config(small_bert(2)).eval()
    features = ragged(np.asarray([[0, 3], [1, 1], [2, 5]]))
    module = SpanExtraction(model, None)  # type: ignore[arg-type]
    batch = features.batch(np.arange(3))
    expected, logits = [], []
    for ids, (start, end) in zip(features.input_ids, features.labels, strict=True):
        out = model(input_ids=torch.tensor(ids)[None])
        for scores, at in ((out.start_logits, start), (out.end_logits, end)):
            expected.append(F.cross_entropy(scores.double(), torch.tensor([at])))
        logits.append(torch.stack([out.start_logits[0], out.end_logits[0]], -1).detach().numpy())
    assert loss_of(module, batch) == pytest.approx(torch.stack(expected).sum().item() / 6, rel=1e-5)
    with torch.no_grad():
        for mine, theirs in zip(module.predict(batch), logits, strict=True):
            assert mine.shape == theirs.shape and mine.dtype == np.float32
            np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_the_loss_of_tokens_against_one_text_at_a_time() -> None:
    model = BertForTokenClassification(small_bert(3)).eval()
    labels = [
        np.asarray([0, IGNORED, 2, 1]),
        np.asarray([IGNORED, IGNORED]),
        np.asarray([1, 1, IGNORED, 0, 2, IGNORED]),
    ]
    features = ragged(labels)
    module = TokenClassification(model, None)  # type: ignore[arg-type]
    total, count = 0.0, 0
    for ids, wanted in zip(features.input_ids, labels, strict=True):
        logits = model(input_ids=torch.tensor(ids)[None]).logits[0].double()
        for scores, label in zip(logits, wanted, strict=True):
            if label != IGNORED:
                total += -scores.log_softmax(-1)[label].item()
                count += 1
    batch = features.batch(np.arange(3))
    assert batch["labels"].tolist()[1] == [IGNORED] * 6
    assert loss_of(module, batch) == pytest.approx(total / count, rel=1e-5)
    none = features.batch(np.asarray([1]))
    assert loss_of(module, none) == 0.0
    with torch.no_grad():
        assert [out.shape for out in module.predict(batch)] == [(4, 3), (2, 3), (6, 3)]
    (alone,) = eval_batches(ragged(labels), 3)
    assert alone["index"].tolist() == [2, 0, 1]
