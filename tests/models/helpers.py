"""Tiny models of every family, with weights large enough that a mistake anywhere shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

SHAPE: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
}
#: name -> (model_type, settings beside SHAPE).
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", {}),
    "roberta": ("roberta", {"pad_token_id": 1, "type_vocab_size": 1}),
    "xlm-roberta": ("xlm-roberta", {"pad_token_id": 1, "type_vocab_size": 1}),
    "electra": ("electra", {"embedding_size": 24}),
    "electra-narrow-embeddings": ("electra", {"embedding_size": 16}),
    "mpnet": ("mpnet", {"pad_token_id": 1}),
}
#: Where the library keeps query, key and value: written out here, not taken from the lab's own table.
MAPS: dict[str, tuple[str, str, str]] = {
    "bert": tuple(f"attention.self.{name}" for name in ("query", "key", "value")),
    "mpnet": tuple(f"attention.attn.{name}" for name in ("q", "k", "v")),
}  # type: ignore[assignment]


def config_of(family: str, **changes: Any) -> PretrainedConfig:
    kind, settings = FAMILIES[family]
    return AutoConfig.for_model(kind, **{**SHAPE, **settings, **changes})


def body_of(family: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A body whose parameters, biases too, are drawn with a wide spread."""
    body = AutoModel.from_config(config_of(family, **changes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in body.named_parameters():
            parameter.normal_(mean=float("LayerNorm.weight" in name), std=0.3, generator=generator)
    return body.eval()


def tokenizer_of(family: str = "bert", words: int = 90) -> PreTrainedTokenizerFast:
    """A word-level tokenizer whose special tokens have the ids that the family expects."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    if family in ("bert", "electra"):
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    names = {token.strip("[]<>/").lower(): token for token in special}
    begin, end = ("[CLS]", "[SEP]") if "[CLS]" in special else ("<s>", "</s>")
    vocabulary = {token: i for i, token in enumerate([*special, *(f"w{i}" for i in range(words))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=names["unk"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(t, vocabulary[t]) for t in (begin, end)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=names["pad"],
        unk_token=names["unk"],
        cls_token=begin,
        sep_token=end,
        mask_token=names["mask"],
    )


def saved(folder: Path, family: str = "bert", *, half: bool = False, **changes: Any) -> Path:
    """A folder with body and tokenizer, as save_pretrained writes it."""
    body = body_of(family, **changes)
    (body.half() if half else body).save_pretrained(folder)
    tokenizer_of(family).save_pretrained(folder)
    return folder


def batch(body: PreTrainedModel, padding: str) -> tuple[Tensor, Tensor | None]:
    """Token ids (3, 11) and a mask: "none", "right", "left", or "mixed" (a row of each)."""
    ids = torch.randint(5, 95, (3, 11), generator=torch.Generator().manual_seed(7))
    if padding == "none":
        return ids, None
    mask = torch.ones(3, 11, dtype=torch.bool)
    if padding == "right":
        mask[0, 7:], mask[1, 3:], mask[2, 10:] = False, False, False
    elif padding == "left":
        mask[0, :4], mask[1, :8], mask[2, :1] = False, False, False
    else:
        mask[0, 7:], mask[1, :4] = False, False
    return ids.masked_fill(~mask, int(body.config.pad_token_id)), mask


def library_projections(body: PreTrainedModel, layer: int, ids: Tensor, mask: Tensor | None) -> list[Tensor]:
    """Q, K, V of `layer` (from 1) as the library's own complete forward computes them."""
    maps = MAPS["mpnet" if body.config.model_type == "mpnet" else "bert"]
    seen: list[Tensor] = []
    hooks = [
        body.get_submodule(f"encoder.layer.{layer - 1}.{name}").register_forward_hook(
            lambda _module, _inputs, output: seen.append(output)
        )
        for name in maps
    ]
    body(input_ids=ids, attention_mask=None if mask is None else mask.long())
    for hook in hooks:
        hook.remove()
    assert len(seen) == 3
    return seen
