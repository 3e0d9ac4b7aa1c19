"""Fine-tuning: the record against its own predictions, the model that is saved, and which student it takes."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, f1_score
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.finetune import plan

from .helpers import column, lines, record


def run(words: Sequence[str], *more: str) -> tuple[dict[str, Any], Path]:
    """Fine-tune in this process; the record and the run's folder."""
    ready = plan(compose_command("finetune", [*words, *more]))
    return ready.make(), ready.folder.path


def predictions(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def dev(tiny_task: Path) -> list[dict[str, str]]:
    with (tiny_task / "validation.csv").open() as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def words(tiny: list[str], tiny_tune: list[str]) -> list[str]:
    return [*tiny, *tiny_tune]


def test_the_scores_of_a_classification_are_those_of_its_predictions(
    words: list[str], tiny_task: Path
) -> None:
    found, folder = run(words, "source=teacher")
    rows, answers = dev(tiny_task), predictions(folder)
    expected = [["cat", "dog"].index(row["label"]) for row in rows]
    assert [line["reference"] for line in answers] == expected
    given = [line["prediction"] for line in answers]
    assert given == [torch.tensor(line["outputs"]).argmax().item() for line in answers]
    assert found["scores"] == pytest.approx(
        {
            "accuracy": 100 * accuracy_score(expected, given),
            "f1_macro": 100 * f1_score(expected, given, average="macro"),
        }
    )
    assert found["score"] == {"name": "accuracy", "value": found["scores"]["accuracy"]}
    assert record(folder)["scores"] == found["scores"]
    assert found["examples"] == {"train": 50, "dev": 21}
    assert len(column(folder, "dev")) == 2


def test_the_scores_of_a_regression_are_those_of_its_predictions(words: list[str], tiny_task: Path) -> None:
    kept = [word for word in words if word != "task=classification"]
    found, folder = run(["task=regression", *kept], "task.label=score", "source=teacher", "scale.epochs=4")
    answers = predictions(folder)
    assert [line["reference"] for line in answers] == [float(row["score"]) for row in dev(tiny_task)]
    pairs = [[line[name] for line in answers] for name in ("prediction", "reference")]
    assert found["scores"]["spearman"] == pytest.approx(100 * spearmanr(*pairs).statistic)
    assert all(len(line["outputs"]) == 1 for line in answers)
    losses = column(folder, "loss")
    assert sum(losses[-7:]) < sum(losses[:7])


@pytest.mark.parametrize("select", ["best", "last"])
def test_the_epoch_that_counts_and_the_model_that_is_saved(
    words: list[str], tiny_task: Path, select: str
) -> None:
    found, folder = run(
        words,
        "source=teacher",
        "scale.epochs=6",
        "tune.lr=5e-3",
        f"tune.select={select}",
        "tune.save_model=true",
    )
    scores = [epoch["accuracy"] for epoch in found["history"]]
    assert len(set(scores)) > 1, "epochs that all score the same would show nothing"
    epoch = scores.index(max(scores)) if select == "best" else 5
    assert found["score"]["value"] == scores[epoch]
    assert f"epoch {epoch + 1} of 6" in found["selection"] and select in found["selection"]
    if select == "best":
        assert epoch != 5, "the best epoch would be the last one"

    model = AutoModelForSequenceClassification.from_pretrained(folder / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    for row, line in zip(dev(tiny_task), predictions(folder), strict=True):
        inputs = tokenizer(row["text"], return_tensors="pt", truncation=True, max_length=24)
        with torch.no_grad():
            logits = model(**inputs).logits[0]
        assert logits.tolist() == pytest.approx(line["outputs"], abs=1e-4)


def test_a_missing_student_is_made_first_and_then_found(words: list[str], tmp_path: Path) -> None:
    found, _ = run(words)
    (student,) = (tmp_path / "runs" / "distill").iterdir()
    assert found["source"]["run"] == record(student)["identity"]
    made = (student / "result.json").stat().st_mtime_ns
    other, _ = run(words, "tune.seed=1")
    assert (student / "result.json").stat().st_mtime_ns == made
    assert other["source"]["run"] == found["source"]["run"]
    assert other["identity"] != found["identity"]
    card = (student / "student" / "README.md").read_text()
    for result, seed in ((found, 0), (other, 1)):
        assert f"| classification | accuracy | {result['scores']['accuracy']:.1f} | {seed} |" in card

    # Its folder in the run is the run; a copy elsewhere is another source with the same weights and scores.
    by_run, _ = run(words, f"source={student / 'student'}")
    assert by_run["identity"] == found["identity"]
    shutil.copytree(student / "student", tmp_path / "copy")
    by_path, _ = run(words, f"source={tmp_path / 'copy'}")
    assert by_path["source"]["kind"] == "path" and by_path["identity"] != found["identity"]
    assert by_path["history"] == found["history"]
    assert by_path["parameters"] == found["parameters"]


def test_the_control_differs_from_the_student_in_what_was_distilled_alone(
    words: list[str], tmp_path: Path
) -> None:
    run(words)
    (distilled,) = (tmp_path / "runs" / "distill").iterdir()
    kept = [word for word in words if not word.startswith("objective.")]
    run(kept, "objective=none")
    (control,) = set((tmp_path / "runs" / "distill").iterdir()) - {distilled}
    ours, theirs = (
        AutoModel.from_pretrained(folder / "student").state_dict() for folder in (distilled, control)
    )
    same = {name for name in ours if torch.equal(ours[name], theirs[name])}
    assert same == set(record(distilled)["untrained"])
    assert not (control / "metrics.jsonl").exists()


def tiny_without_dropout(words: list[str], tmp_path: Path) -> list[str]:
    """Overrides that fine-tune a copy of the teacher without dropout."""
    teacher = next(word for word in words if word.startswith("teacher.path=")).partition("=")[2]
    folder = tmp_path / "quiet"
    shutil.copytree(teacher, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return [*words, f"teacher.path={folder}", "source=teacher"]


def test_accumulation_sees_the_same_examples(words: list[str], tmp_path: Path) -> None:
    _, one = run(words, "source=teacher", f"paths.runs={tmp_path / 'one'}")
    _, two = run(words, "source=teacher", f"paths.runs={tmp_path / 'two'}", "trainer.accumulate=2")
    assert [line["step"] for line in lines(one) if "loss" in line] == list(range(1, 15))
    assert [line["step"] for line in lines(two) if "loss" in line] == list(range(1, 15))
    assert column(one, "tokens") == column(two, "tokens")
    # Without dropout the steps are the same to rounding; the last one of an epoch too: its two examples, of
    # 50 in batches of 8, are two batches of one, with the same mean.
    quiet = tiny_without_dropout(words, tmp_path)
    losses = [
        column(
            run(quiet, f"paths.runs={tmp_path / f'quiet-{parts}'}", f"trainer.accumulate={parts}")[1], "loss"
        )
        for parts in (1, 2)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_fine_tuning_that_is_done_is_not_done_again(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = run(words)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded for a run that is done")

    monkeypatch.setattr(AutoModel, "from_pretrained", refuse)
    monkeypatch.setattr(AutoModelForSequenceClassification, "from_pretrained", refuse)
    again, _ = run(words)
    assert again == found
