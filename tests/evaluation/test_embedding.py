"""evaluator=embedding against loops of the test's own, on vectors that the test places."""

from pathlib import Path

import numpy as np
import pytest
import torch

from minilm_lab.errors import LabError
from minilm_lab.evaluation.embedding import Embedding

HUB_TASK = "minilm_lab.tasks.hub.HubTask"


def vectors(texts: list[str]) -> torch.Tensor:
    """A text's words by their first letter, weighted so that no two texts tie: what a test can work out by itself."""

    def weight(word: str, letter: str) -> float:
        return float(word[0] == letter) * (1 + 0.137 * (ord(word[-1]) % 10) ** 0.5)

    counts = [[1 + sum(weight(word, letter) for word in text.split()) for letter in "abcd"] for text in texts]
    return torch.tensor(counts, dtype=torch.float32)


def folder(path: Path, lines: list[str]) -> str:
    path.mkdir()
    for split in ("train", "validation"):
        (path / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return str(path)


def pairs(tmp_path: Path) -> tuple[list[tuple[str, str, int]], dict[str, object]]:
    rng = np.random.default_rng(0)
    words = [f"{letter}{n}" for letter in "abcd" for n in range(9)]
    rows = [(" ".join(rng.choice(words, 6)), " ".join(rng.choice(words, 6)), n % 2) for n in range(20)]
    path = folder(tmp_path / "pairs", ["one,two,label", *(f"{a},{b},{label}" for a, b, label in rows)])
    return rows, {"_target_": HUB_TASK, "name": "p", "path": path, "text": ["one", "two"]}


def test_pairs_against_a_loop(tmp_path):
    rows, task = pairs(tmp_path)
    evaluator = Embedding(tasks={"p": task})
    evaluator.prepare(None, tmp_path)
    scores = evaluator(vectors).scores
    first, second = (
        torch.nn.functional.normalize(vectors([row[n] for row in rows]).double()) for n in (0, 1)
    )
    cosines = [float(a @ b) for a, b in zip(first, second, strict=True)]
    right = [row[2] for row in rows]
    inverse = [
        1 / (1 + sum(float(first[n] @ other) > cosines[n] + 1e-6 for other in second))
        for n in range(len(rows))
        if right[n]
    ]
    assert scores["p_retrieval"] == pytest.approx(100 * sum(inverse) / len(inverse), abs=1e-3)
    steps = [
        sum(r for c, r in zip(cosines, right, strict=True) if c >= t - 1e-7)
        / sum(c >= t - 1e-7 for c in cosines)
        for t, is_right in zip(cosines, right, strict=True)
        if is_right
    ]
    assert scores["p_paraphrase"] == pytest.approx(100 * sum(steps) / len(steps), abs=1e-3)
    assert scores["average"] == pytest.approx((scores["p_retrieval"] + scores["p_paraphrase"]) / 2)


def test_classes_that_lie_apart_are_known_entirely(tmp_path):
    lines = [
        "sentence,label",
        *(f"{letter}x {letter}y {letter}z{n},{letter}" for n in range(12) for letter in "abc"),
    ]
    path = folder(tmp_path / "classes", lines)
    task = {"_target_": HUB_TASK, "name": "c", "path": path, "text": ["sentence"]}
    evaluator = Embedding(tasks={"c": task}, k=3)
    evaluator.prepare(None, tmp_path)
    assert evaluator(vectors).scores == pytest.approx(
        {"average": 100.0, "c_knn": 100.0, "c_linear": 100.0, "c_clustering": 100.0}
    )
    with pytest.raises(LabError, match=r"evaluator.k=37 is more than the training texts of c"):
        Embedding(tasks={"c": task}, k=37).prepare(None, tmp_path)


def test_impossible_settings(tmp_path):
    with pytest.raises(LabError, match=r"evaluator.tasks is empty; write \+task@evaluator.tasks"):
        Embedding()
    with pytest.raises(LabError, match=r"evaluator.tasks.x has no _target_; write task@evaluator.tasks.x="):
        Embedding(tasks={"x": {}})


def test_what_cannot_be_had_without_a_hub_is_left_out_and_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    _, task = pairs(tmp_path)
    away = {**task, "name": "away", "path": "nobody/nothing"}
    evaluator = Embedding(tasks={"p": task, "away": away})
    evaluator.prepare(None, tmp_path)
    assert "evaluator=embedding leaves out away, which is not here" in caplog.text
    result = evaluator(vectors)
    alone = Embedding(tasks={"p": task})
    alone.prepare(None, tmp_path)
    assert result.scores == alone(vectors).scores and result.facts == {"left_out": ["away"]}
    assert evaluator.identity()["tasks"].keys() == {"p"}
    with pytest.raises(LabError, match="none of its tasks"):
        Embedding(tasks={"away": away}).prepare(None, tmp_path)
    with pytest.raises(
        LabError, match="nobody/nothing"
    ):  # a folder was named: what is asked for must be in it
        Embedding(tasks={"p": task, "away": away}).prepare(str(tmp_path), tmp_path)
