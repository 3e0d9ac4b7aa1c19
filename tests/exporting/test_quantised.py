"""What int8 costs is measured right: on forwards whose difference is known."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from data.helpers import many_texts, wordpiece
from scipy.stats import rankdata

from minilm_lab.errors import LabError
from minilm_lab.exporting.quantised import Probe, check_task, compare, load_probe, measure_loss, write_int8
from minilm_lab.models.pooling import Pooling, cosine
from minilm_lab.tasks.hub import HubTask

from .conftest import task_on

TOKENIZER = wordpiece()
TEXT = many_texts(40)
NAMES = ["input_ids", "attention_mask"]
DRAW = np.random.default_rng(0).normal(size=(200, 6))


def words(batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """A model without context: each token has its own vector, padding a large one."""
    hidden = DRAW[batch["input_ids"]].astype(np.float32)
    hidden[batch["attention_mask"] == 0] = 1e6
    return hidden


def twice(batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """The same direction, twice as far."""
    return 2 * words(batch)


def other(batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """Half of the width forgotten."""
    hidden = words(batch)
    hidden[:, :, 3:] = 0
    return hidden


def by_hand(text: str, width: int = 6) -> np.ndarray:
    ids = TOKENIZER(text, truncation=True, max_length=128)["input_ids"]
    return np.mean([DRAW[i] * (np.arange(6) < width) for i in ids], axis=0)


def test_embeddings_are_means_over_real_tokens_in_the_order_of_the_texts() -> None:
    texts = [*TEXT, "cat", "the dogs", " ".join(TEXT)] * 2  # several batches, of mixed lengths
    found = compare(texts, TOKENIZER, Pooling(), 128, NAMES, words, twice)
    expected = np.stack([by_hand(text) for text in texts])
    np.testing.assert_allclose(found.first, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.second, 2 * expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(cosine(found.first, found.second), 1)
    assert found.relative == pytest.approx(1)
    assert found.largest == pytest.approx(
        max(
            np.abs(DRAW[i]).max()
            for t in texts
            for i in TOKENIZER(t, truncation=True, max_length=128)["input_ids"]
        )
    )


def test_the_score_is_the_rank_correlation_of_cosines() -> None:
    first, second = TEXT[:7], [*TEXT[11:16], "cat", "two dogs"]
    given = [0.1, 4.0, 2.5, 2.5, 5.0, 0.0, 3.0]
    loss = measure_loss(Probe([*first, *second], given, "x"), TOKENIZER, Pooling(), 512, NAMES, words, other)
    assert loss.spearman is not None
    for found, width in zip(loss.spearman, (6, 3), strict=True):
        pairs = [(by_hand(a, width), by_hand(b, width)) for a, b in zip(first, second, strict=True)]
        cosines = [a @ b / np.sqrt(a @ a * (b @ b)) for a, b in pairs]
        expected = 100 * np.corrcoef(rankdata(cosines), rankdata(given))[0, 1]
        assert found == pytest.approx(expected)
    assert loss.texts == 14
    assert loss.cosine_min <= loss.cosine_mean < 1


def test_texts_without_similarity_have_no_score() -> None:
    loss = measure_loss(Probe(TEXT[:3], None, "x"), TOKENIZER, Pooling(), 512, NAMES, words, words)
    assert loss.spearman is None
    assert (loss.cosine_mean, loss.largest, loss.relative) == (pytest.approx(1), 0, 0)


def test_the_pairs_of_a_task(pairs: Path, tmp_path: Path) -> None:
    probe = load_probe(task_on(pairs), None, tmp_path)
    rows = [line.split(",") for line in (pairs / "validation.csv").read_text().splitlines()[1:]]
    assert probe.texts == [row[0] for row in rows] + [row[1] for row in rows]
    assert probe.pairs == pytest.approx([float(row[2]) for row in rows])
    assert "alike dev, 12 pairs" in probe.name


def stsb() -> HubTask:
    return HubTask(
        name="stsb",
        kind="regression",
        path="nyu-mll/glue",
        config="stsb",
        text=["sentence1", "sentence2"],
        metrics=["spearman"],
        score="spearman",
    )


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minilm_lab.hub_access.why_not", lambda name, kind: ConnectionError("no network"))


def test_without_a_hub_there_are_sentences_and_it_is_said(
    no_hub: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="minilm_lab"):
        probe = load_probe(stsb(), None, tmp_path)
    assert probe.pairs is None and len(probe.texts) == 32
    assert "nyu-mll/glue is out of reach" in caplog.text and "without a score" in caplog.text
    assert "32 sentences" in probe.name


def test_data_that_was_pointed_to_must_be_there(no_hub: None, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"paths\.hub"):
        load_probe(stsb(), str(tmp_path), tmp_path)
    with pytest.raises(LabError, match="nowhere"):
        load_probe(task_on(tmp_path / "nowhere"), None, tmp_path)


def test_tasks_that_are_no_similarity() -> None:
    for task in (
        HubTask(name="pets", path="x"),
        HubTask(name="scores", kind="regression", path="x", metrics=["pearson"], score="pearson"),
    ):
        with pytest.raises(LabError, match=f"task={task.name}: .*task=stsb, or task=regression"):
            check_task(task)
    check_task(stsb())


def test_every_column_of_a_matrix_has_a_scale_of_its_own(tmp_path: Path) -> None:
    """One column a thousand times as large as the others: with one scale these would round to nothing."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    matrix = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    matrix[:, 0] *= 1000
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, [None, 8])],
        [helper.make_tensor_value_info("y", kind, [None, 4])],
        [onnx.numpy_helper.from_array(matrix, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    write_int8(tmp_path / "model.onnx", tmp_path / "int8.onnx")
    x = np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32)
    session = runtime.InferenceSession(str(tmp_path / "int8.onnx"), providers=["CPUExecutionProvider"])
    error = session.run(None, {"x": x})[0] - x @ matrix
    relative = np.sqrt((error**2).mean(0) / ((x @ matrix) ** 2).mean(0))
    assert (relative < 0.05).all(), relative
