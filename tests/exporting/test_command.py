"""`minilm-lab export` from the command line, and the real model in every form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lab import Finished, Lab
from transformers import AutoModel, AutoTokenizer

ROOT = Path(__file__).parents[2]


def refused(done: Finished, words: list[str]) -> None:
    assert done.code == 1, f"{done.code}\n{done.out}\n{done.err}"
    assert "Traceback" not in done.err, done.err
    for word in words:
        assert word in done.err, f"{word!r} is not in: {done.err}"


def test_a_run_leaves_the_lab(lab: Lab, tiny: list[str], tmp_path: Path) -> None:
    assert lab.run("distill", *tiny).code == 0
    (run,) = (tmp_path / "runs" / "distill").iterdir()
    words = [
        f"run={run.name.rpartition('-')[2]}",
        f"paths.runs={tmp_path / 'runs'}",
        f"out={tmp_path / 'out'}",
    ]
    done = lab.run("export", *words, "to=[hf,sentence_transformers]")
    assert done.code == 0, done.err
    assert f"folder: {tmp_path / 'out'}" in done.out
    card = (tmp_path / "out" / "README.md").read_text()
    for section in ("## Untrained by distillation", "## Configuration", "cut to 16 tokens"):
        assert section in card
    ids = torch.tensor([[2, 7, 9, 3]])
    with torch.no_grad():
        mine, theirs = (
            AutoModel.from_pretrained(folder).eval()(input_ids=ids).last_hidden_state
            for folder in (tmp_path / "out", run / "student")
        )
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)

    refused(lab.run("export", *words), ["is not empty", "overwrite=true"])
    again = lab.run("export", *words, "to=hf", "mlm_head=zero", "overwrite=true")
    assert again.code == 0, again.err
    assert not (tmp_path / "out" / "modules.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run=???"], ["run must be given, for example run=…"]),
        (["out=???"], ["out must be given"]),
        (["to=[hff]"], ["to=hff", "Did you mean 'hf'?"]),
        (["to=onxx"], ["to=onxx", "Did you mean 'onnx'?"]),
        (["normalize=abc"], ["normalize", "abc"]),
        (["run=nothing"], ["run=nothing", "no such run"]),
        (["too=[hf]"], ["too", "Did you mean 'to'?"]),
        (["+too=[hf]"], ["too: no such setting", "Did you mean 'to'?"]),
        (["to=[onnx_int8]", "task=sst2"], ["task=sst2", "task=stsb"]),
        (["to=[onnx_int8]", "paths.hub=nowhere"], ["paths.hub=nowhere", "not a folder"]),
        (["push=me"], ["push=me", "<owner>/<name>"]),
        (["push=me/small"], ["push=me/small"]),
    ],
    ids=str,
)
def test_what_is_refused(
    lab: Lab, words: list[str], message: list[str], tiny_teacher: Path, tmp_path: Path
) -> None:
    given = [f"run={tiny_teacher}", f"out={tmp_path / 'out'}", f"paths.runs={tmp_path}"]
    refused(lab.run("export", *given, *words), message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_real_model(lab: Lab, tmp_path: Path) -> None:
    """all-MiniLM-L6-v2 in every form: what comes out of each is the same, int8 nearly."""
    source = ROOT / ".cache" / "models" / "all_minilm_l6"
    if not source.is_dir():
        pytest.skip("all-MiniLM-L6-v2 is not in .cache; any command with teacher=all_minilm_l6 fetches it")
    reader = pytest.importorskip("sentence_transformers")
    out = tmp_path / "out"
    done = lab.run(
        "export",
        f"run={source}",
        f"out={out}",
        "to=[sentence_transformers,onnx,onnx_int8]",
        f"paths.cache={tmp_path}",
    )
    assert done.code == 0, done.err
    assert "without a score" in done.err, "no hub answers in tests"
    texts = ["A man is playing a guitar.", "Somebody plays an instrument.", "The stock market fell."]
    found = reader.SentenceTransformer(str(out), device="cpu").encode(texts)
    expected = reader.SentenceTransformer(str(source), device="cpu").encode(texts)
    np.testing.assert_allclose(found, expected, atol=1e-6)

    from minilm_lab.exporting.forwards import of_onnx
    from minilm_lab.exporting.quantised import compare
    from minilm_lab.models.pooling import Pooling, cosine

    names = ["input_ids", "attention_mask", "token_type_ids"]
    files = [of_onnx(out / "onnx" / name, names) for name in ("model.onnx", "model_int8.onnx")]
    pooled = compare(texts, AutoTokenizer.from_pretrained(out), Pooling(), 128, names, *files)
    exact = torch.nn.functional.normalize(pooled.first, dim=1).numpy()
    np.testing.assert_allclose(exact, expected, atol=1e-5)
    assert 0.97 < cosine(pooled.first, pooled.second).min() < 1
    assert (out / "onnx" / "model_int8.onnx").stat().st_size < 30e6
