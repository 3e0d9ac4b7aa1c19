"""Tiny models of every family, with weights large enough that a mistake anywhere shows."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from minilm_lab.models.teacher import Teacher

SHAPE: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
}
#: Where the library keeps query, key and value (or the one map of all three) of layer {}: written out here, not
#: taken from the lab's own table.
MAPS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("bert", "roberta", "xlm-roberta", "electra"),
        tuple(f"encoder.layer.{{}}.attention.self.{name}" for name in ("query", "key", "value")),
    ),
    "mpnet": tuple(f"encoder.layer.{{}}.attention.attn.{name}" for name in "qkv"),
    "distilbert": tuple(f"transformer.layer.{{}}.attention.{name}_lin" for name in "qkv"),
    "deberta-v2": tuple(f"encoder.layer.{{}}.attention.self.{n}_proj" for n in ("query", "key", "value")),
    "modernbert": ("layers.{}.attn.Wqkv",),
    "gpt2": ("h.{}.attn.c_attn",),
    **dict.fromkeys(
        ("llama", "qwen2", "qwen3"), tuple(f"layers.{{}}.self_attn.{name}_proj" for name in "qkv")
    ),
}
#: name -> (model_type, settings beside SHAPE).
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", {}),
    "roberta": ("roberta", {"pad_token_id": 1, "type_vocab_size": 1}),
    "xlm-roberta": ("xlm-roberta", {"pad_token_id": 1, "type_vocab_size": 1}),
    "electra": ("electra", {"embedding_size": 24}),
    "electra-narrow-embeddings": ("electra", {"embedding_size": 16}),
    "distilbert": ("distilbert", {"hidden_dim": 96}),
    "mpnet": ("mpnet", {"pad_token_id": 1}),
    "albert": ("albert", {"embedding_size": 16}),
    "albert-two-groups": ("albert", {"embedding_size": 16, "num_hidden_groups": 2}),
    "deberta-v3": (
        "deberta-v2",
        {
            "relative_attention": True,
            "position_biased_input": False,
            "pos_att_type": "p2c|c2p",
            "share_att_key": True,
            "position_buckets": 4,
            "norm_rel_ebd": "layer_norm",
            "legacy": False,
        },
    ),
    "deberta-v2-convolution": (
        "deberta-v2",
        {
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "type_vocab_size": 2,
            "conv_kernel_size": 3,
        },
    ),
    "modernbert": (
        "modernbert",
        {"pad_token_id": 0, "local_attention": 6, "global_attn_every_n_layers": 2, "intermediate_size": 36},
    ),
    "gpt2": ("gpt2", {"pad_token_id": 0, "n_inner": 96}),
    "gpt2-scaled-by-layer": ("gpt2", {"pad_token_id": 0, "scale_attn_by_inverse_layer_idx": True}),
    "llama": ("llama", {"pad_token_id": 0, "num_attention_heads": 4, "num_key_value_heads": 2}),
    "qwen2": (
        "qwen2",
        {
            "pad_token_id": 0,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "use_sliding_window": True,
            "sliding_window": 4,
            "max_window_layers": 1,
        },
    ),
    "qwen3": (
        "qwen3",
        {"pad_token_id": 0, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 12},
    ),
}
#: Hidden size of a student narrower than the 24 of SHAPE, which the family's heads divide.
NARROW = {name: 16 if "num_attention_heads" in settings else 12 for name, (_, settings) in FAMILIES.items()}


def config_of(family: str, **changes: Any) -> PretrainedConfig:
    kind, settings = FAMILIES[family]
    return AutoConfig.for_model(kind, **{**SHAPE, **settings, **changes})


def body_of(family: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A body whose parameters, biases too, are drawn with a wide spread."""
    return drawn(AutoModel.from_config(config_of(family, **changes)), seed).eval()


def masked_lm_of(family: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """The same with a masked-LM head."""
    return drawn(AutoModelForMaskedLM.from_config(config_of(family, **changes)), seed).eval()


def drawn(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Every parameter with a wide spread, around 1 for the weights of normalisations and 0 for all else."""
    generator = torch.Generator().manual_seed(seed)
    norms = {id(m.weight) for m in model.modules() if "Norm" in type(m).__name__}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(mean=float(id(parameter) in norms), std=0.3, generator=generator)
    return model


def layers_of(body: PreTrainedModel) -> list[nn.Module]:
    """The layers, found without the lab's own table; ALBERT's groups."""
    return max(
        (m for m in body.modules() if isinstance(m, nn.ModuleList)),
        key=lambda m: sum(1 for _ in m.parameters()),
    )


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


def teacher(path: Path, **settings: Any) -> Teacher:
    return Teacher(name="tiny", path=str(path), **settings)


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


@dataclass
class Library:
    """What the library's own complete forward shows, with its plain attention."""

    hidden: tuple[Tensor, ...]
    """By layer, 0 = the embeddings."""
    attentions: tuple[Tensor, ...]
    """Of layer 1 first."""
    projections: list[tuple[Tensor, ...]]
    """Query, key, value; of layer 1 first."""
    logits: Tensor | None


def library(model: PreTrainedModel, ids: Tensor, mask: Tensor | None, copied: bool = True) -> Library:
    """Run `model` (a copy of it, so that no hook stays) from end to end."""
    model = copy.deepcopy(model) if copied else model
    model.set_attn_implementation("eager")
    body, config = model.base_model, model.config
    seen: dict[str, list[Tensor]] = {}
    names: list[list[str]] = []
    for layer in range(config.num_hidden_layers):
        if config.model_type == "albert":
            group = layer * config.num_hidden_groups // config.num_hidden_layers
            path = f"encoder.albert_layer_groups.{group}.albert_layers.0.attention"
            names.append([f"{path}.{name}" for name in ("query", "key", "value")])
        else:
            names.append([name.format(layer) for name in MAPS[config.model_type]])
    for name in {name for layer in names for name in layer}:
        body.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: seen.setdefault(name, []).append(output)
        )
    settings = {"use_cache": False} if config.model_type in ("gpt2", "llama", "qwen2", "qwen3") else {}
    out = model(
        input_ids=ids,
        attention_mask=None if mask is None else mask.long(),
        output_hidden_states=True,
        output_attentions=True,
        **settings,
    )
    projections = []
    for layer in names:
        made = [seen[name].pop(0) for name in layer]
        projections.append(tuple(made if len(made) == 3 else made[0].chunk(3, dim=-1)))
    return Library(out.hidden_states, out.attentions, projections, getattr(out, "logits", None))
