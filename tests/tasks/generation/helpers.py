"""Tiny random models of each family that generates, in float64, and batches for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    ElectraConfig,
    ElectraForMaskedLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from minilm_lab.tasks.generation.model import Symbols

FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "bert": (BertConfig, BertForMaskedLM, {"pad_token_id": 0}),
    "roberta": (RobertaConfig, RobertaForMaskedLM, {"type_vocab_size": 1, "pad_token_id": 1}),
    "xlm-roberta": (XLMRobertaConfig, XLMRobertaForMaskedLM, {"type_vocab_size": 1, "pad_token_id": 1}),
    "electra": (ElectraConfig, ElectraForMaskedLM, {"embedding_size": 12, "pad_token_id": 0}),
}
WORDS = 31


def tiny(family: str = "bert", *, layers: int = 3, seed: int = 5, words: int = WORDS) -> PreTrainedModel:
    """A random model in eval mode, float64, whose attention is far from uniform."""
    configuration, kind, extra = FAMILIES[family]
    config = configuration(
        vocab_size=words,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=32,
        max_position_embeddings=40,
        initializer_range=0.4,
        **extra,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = kind(config)
    return model.double().eval()


def symbols(model: PreTrainedModel) -> Symbols:
    """[MASK] 4, [SEP] 3, [CLS] 2, and the model's padding."""
    pad = int(model.config.pad_token_id)
    return Symbols(pad, 4, 3, tuple(sorted({pad, 2, 4})))


def batch(lengths: list[tuple[int, int]], seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """(input_ids, real, target) of sources and targets of these lengths, padded on the right with 0."""
    draw = torch.Generator().manual_seed(seed)
    width = max(map(sum, lengths))
    ids = torch.zeros(len(lengths), width, dtype=torch.long)
    real, target = torch.zeros_like(ids).bool(), torch.zeros_like(ids).bool()
    for row, (source, count) in enumerate(lengths):
        ids[row, : source + count] = torch.randint(5, WORDS, (source + count,), generator=draw)
        real[row, : source + count] = True
        target[row, source : source + count] = True
    return ids, real, target
