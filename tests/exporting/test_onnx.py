"""ONNX files do what torch does, at any batch and length; int8 says what it costs."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from models.helpers import FAMILIES, body_of, tokenizer_of
from transformers import AutoModel, AutoTokenizer

from minilm_lab.errors import LabError
from minilm_lab.exporting import graph
from minilm_lab.exporting.card import Measured
from minilm_lab.exporting.forwards import forward_seconds, of_onnx, of_torch
from minilm_lab.exporting.job import prepare
from minilm_lab.exporting.request import Request
from minilm_lab.models.families import positions_of
from minilm_lab.models.resolve import Model, resolve

from .conftest import task_on

pytestmark = pytest.mark.slow
FORMS = ["hf", "sentence_transformers", "onnx", "onnx_int8"]


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, tiny_teacher: Path, pairs: Path
) -> tuple[Path, Measured]:
    """The tiny teacher in every form."""
    folder = tmp_path_factory.mktemp("exported")
    request = Request(run=str(tiny_teacher), out=str(folder / "out"), to=FORMS)
    job = prepare(
        request,
        resolve(str(tiny_teacher), runs=folder, cache=folder, key="run"),
        task_on(pairs),
        None,
        folder,
    )
    return folder / "out", job.write()


def batches(size: int, length: int, vocabulary: int, names: list[str]) -> dict[str, np.ndarray]:
    """Random tokens; all rows but the first are padded, on one side or the other."""
    random = np.random.default_rng(size * 1000 + length)
    ids = random.integers(0, vocabulary, (size, length))
    mask = np.ones_like(ids)
    for row in range(1, size):
        padding = int(random.integers(1, length))
        mask[row, -padding:] = 0
        mask[row] = mask[row, ::-1] if row % 2 else mask[row]
    whole = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids % 2}
    return {name: whole[name] for name in names}


def session(file: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("size", "length"), [(1, 1), (1, 64), (2, 2), (5, 17), (13, 40)])
def test_the_file_is_the_model(exported: tuple[Path, Measured], size: int, length: int) -> None:
    file = exported[0] / "onnx" / "model.onnx"
    model = AutoModel.from_pretrained(exported[0]).eval()
    found = session(file)
    names = [entry.name for entry in found.get_inputs()]
    batch = batches(size, length, model.config.vocab_size, names)
    (hidden,) = found.run(["last_hidden_state"], batch)
    with torch.no_grad():
        tensors = {name: torch.from_numpy(array.copy()) for name, array in batch.items()}
        expected = model(**tensors).last_hidden_state.numpy()
    real = batch["attention_mask"] == 1
    assert hidden.shape == expected.shape == (size, length, 48)
    np.testing.assert_allclose(hidden[real], expected[real], atol=1e-4, rtol=0)


def test_the_file_is_a_valid_graph_of_any_size(exported: tuple[Path, Measured]) -> None:
    for name in ("model.onnx", "model_int8.onnx"):
        model = onnx.load(exported[0] / "onnx" / name)
        onnx.checker.check_model(model)
        for entry in [*model.graph.input, *model.graph.output]:
            sizes = [size.dim_param or size.dim_value for size in entry.type.tensor_type.shape.dim]
            assert sizes[:2] == ["batch", "length"]


def test_int8_is_smaller_and_its_loss_is_said(exported: tuple[Path, Measured]) -> None:
    folder, measured = exported
    files = {name: (folder / "onnx" / name).stat().st_size for name in ("model.onnx", "model_int8.onnx")}
    assert files["model_int8.onnx"] < 0.6 * files["model.onnx"]
    loss = measured.loss
    assert loss is not None and loss.spearman is not None
    assert 0.9 < loss.cosine_min <= loss.cosine_mean < 1
    assert 0 < loss.relative < 0.3 and loss.largest > 0
    card = (folder / "README.md").read_text()
    assert f"{loss.spearman[0]:.2f} -> {loss.spearman[1]:.2f}" in card
    assert f"mean {loss.cosine_mean:.4f}, smallest {loss.cosine_min:.4f}" in card
    assert f"differ by {measured.difference:.1e} at most" in card
    assert "alike dev, 12 pairs" in card


def test_the_measured_score_is_the_one_of_the_file(exported: tuple[Path, Measured], pairs: Path) -> None:
    """One text at a time, from the file alone; int8 scales activations by the batch that they come in."""
    from scipy.stats import spearmanr

    folder, measured = exported
    rows = [line.split(",") for line in (pairs / "validation.csv").read_text().splitlines()[1:]]
    tokenizer, reader = AutoTokenizer.from_pretrained(folder), session(folder / "onnx" / "model.onnx")
    names = [entry.name for entry in reader.get_inputs()]

    def embed(text: str) -> np.ndarray:
        batch = tokenizer(text, return_tensors="np")
        return reader.run(None, {n: batch[n].astype(np.int64) for n in names})[0][0].astype(float).mean(0)

    cosines = []
    for first, second, _ in rows:
        a, b = embed(first), embed(second)
        cosines.append(a @ b / np.sqrt(a @ a * (b @ b)))
    expected = 100 * spearmanr(cosines, [float(row[2]) for row in rows]).statistic
    assert measured.loss is not None and measured.loss.spearman is not None
    assert measured.loss.spearman[0] == pytest.approx(expected, abs=1e-6)


def test_the_code_of_the_card_runs(exported: tuple[Path, Measured], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exported[0])
    blocks = re.findall(r"```python\n(.*?)```", (exported[0] / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        if "sentence_transformers" in block:
            pytest.importorskip("sentence_transformers")
        scope: dict[str, Any] = {}
        exec(block, scope)
    assert scope["hidden"].shape[0] == 2


def perturbed(folder: Path) -> Any:
    body = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        body.encoder.layer[2].output.dense.weight[0, 0] += 0.05
    return body


def test_a_file_that_differs_is_refused(exported: tuple[Path, Measured]) -> None:
    file = exported[0] / "onnx" / "model.onnx"
    names = ["input_ids", "attention_mask"]
    names += ["token_type_ids"] * (len(session(file).get_inputs()) == 3)
    assert graph.check_onnx(AutoModel.from_pretrained(exported[0]), names, file, 64) < 1e-5
    with pytest.raises(LabError, match="differs from torch by"):
        graph.check_onnx(perturbed(exported[0]), names, file, 64)


def test_after_a_wrong_file_nothing_is_left(
    exported: tuple[Path, Measured],
    tiny_teacher: Path,
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = tmp_path / "source"
    perturbed(tiny_teacher).save_pretrained(source)
    AutoTokenizer.from_pretrained(tiny_teacher).save_pretrained(source)

    def stale(body: Any, names: list[str], file: Path) -> None:
        file.parent.mkdir()
        shutil.copy(exported[0] / "onnx" / "model.onnx", file)

    monkeypatch.setattr(graph, "write_onnx", stale)
    request = Request(run=str(source), out=str(tmp_path / "out"), to=["hf", "onnx"])
    job = prepare(request, Model(str(source), None, "x"), task_on(pairs), None, tmp_path)
    with pytest.raises(LabError, match="nothing was written"):
        job.write()
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_model_that_torch_cannot_export(tmp_path: Path) -> None:
    body = body_of("bert")
    body.forward = lambda **_: 1 / 0  # type: ignore[method-assign]
    attention = body.config._attn_implementation
    with pytest.raises(LabError, match=r"to=\[onnx\]: torch cannot export a 'bert' model"):
        graph.write_onnx(body, ["input_ids", "attention_mask"], tmp_path / "model.onnx")
    assert body.config._attn_implementation == attention


@pytest.mark.parametrize("family", ["mpnet", "deberta-v3", "modernbert", "qwen2"])
def test_families_whose_attention_is_their_own(family: str, tmp_path: Path) -> None:
    assert family in FAMILIES
    body = body_of(family)
    before = copy.deepcopy(body.state_dict()), body.training, body.config._attn_implementation
    names = graph.input_names(body, tokenizer_of(family))
    graph.write_onnx(body, names, tmp_path / "model.onnx")
    assert graph.check_onnx(body, names, tmp_path / "model.onnx", positions_of(body.config)) < 1e-4
    assert (body.training, body.config._attn_implementation) == before[1:]
    assert all(torch.equal(before[0][name], tensor) for name, tensor in body.state_dict().items())


def test_times_are_taken_of_each_form(exported: tuple[Path, Measured]) -> None:
    file = exported[0] / "onnx" / "model.onnx"
    body = AutoModel.from_pretrained(exported[0])
    names = [entry.name for entry in session(file).get_inputs()]
    threads = torch.get_num_threads()
    seconds = forward_seconds(
        {"torch": of_torch(body, names), "ONNX": of_onnx(file, names, threads=1)}, body.config.vocab_size, 64
    )
    assert set(seconds) == {"torch", "ONNX"} and min(seconds.values()) > 0
    assert torch.get_num_threads() == threads
