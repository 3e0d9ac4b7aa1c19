"""Models that travel in another form, written as the folder that `save_pretrained` writes, once."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

from minilm_lab.errors import LabError

#: Of sentence-transformers: how the tokens' vectors become a text's. A published sentence encoder needs it to be itself.
_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


def from_gguf(file: Path, into: Path) -> None:
    """Write the causal model of a GGUF file, with its tokenizer, in float32.

    Raises LabError when the packages that read GGUF are missing.
    """
    _need("decoders", "gguf", "accelerate")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = {"gguf_file": file.name, "local_files_only": True}
    quantised = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **settings)
    config = type(quantised.config).from_dict(quantised.config.to_dict())
    # A model that carries a quantisation cannot be saved: its numbers go into one that never did.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(quantised.state_dict())
    model.save_pretrained(into)
    AutoTokenizer.from_pretrained(file.parent, **settings).save_pretrained(into)


def from_onnx_bert(file: Path, tokenizer: Path, heads: int, into: Path) -> None:
    """Write the BERT sentence encoder of a float32 ONNX file that averages its tokens.

    Biases, LayerNorms and tables keep their names in the file; the products are told by the names of their nodes
    (…/encoder/layer.0/attention/self/query/MatMul) and lie transposed.

    Args:
        file: exported from sentence-transformers.
        tokenizer: folder of a model with the same vocabulary.
        heads: attention heads, which the weights do not tell.

    Raises LabError when the package that reads ONNX is missing.
    """
    _need("export", "onnx")
    import onnx
    import torch
    from onnx import numpy_helper
    from transformers import AutoTokenizer, BertConfig, BertModel

    graph = onnx.load(str(file)).graph
    arrays = {
        entry.name: torch.from_numpy(numpy_helper.to_array(entry).copy()) for entry in graph.initializer
    }
    weights = {}
    for name, values in arrays.items():
        if found := re.fullmatch(r".*auto_model\.(.+)", name):
            weights[found[1]] = values
    for node in graph.node:
        found = re.fullmatch(r".*/(encoder/layer\.\d+/.+)/MatMul", node.name)
        if found and node.input[1] in arrays:
            weights[f"{found[1].replace('/', '.')}.weight"] = arrays[node.input[1]].T.contiguous()
    words, width = weights["embeddings.word_embeddings.weight"].shape
    config = BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=1 + max(int(n.split(".")[2]) for n in weights if n.startswith("encoder.layer.")),
        num_attention_heads=heads,
        intermediate_size=len(weights["encoder.layer.0.intermediate.dense.bias"]),
        max_position_embeddings=len(weights["embeddings.position_embeddings.weight"]),
    )
    model = BertModel(config, add_pooling_layer=False)
    model.load_state_dict(weights)
    model.save_pretrained(into)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(into)
    _write_mean_pooling(into, width)


def _write_mean_pooling(into: Path, width: int) -> None:
    (into / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True}
    for name, content in (("1_Pooling/config.json", pooling), ("modules.json", _MODULES)):
        (into / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _need(extra: str, *packages: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise LabError(
            f"this model travels in a form that needs {' and '.join(missing)}: pip install 'minilm-lab[{extra}]'"
        )
