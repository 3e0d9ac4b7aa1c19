"""What a model is: shape, parameters, where its projections are. Read from its configuration, without its weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

from minilm_lab.errors import LabError
from minilm_lab.models.families import (
    Family,
    family_of,
    ffn_of,
    head_size,
    positions_of,
    projection_widths,
)
from minilm_lab.models.parameters import count_parameters


def facts_of(config: PretrainedConfig, width: int | None = None) -> dict[str, Any]:
    """Return what can be said of the model that `config` describes, as data for JSON.

    width: width of a student's queries, keys and values, which relation heads must divide too.
    Parameters are counted on a model without memory (torch's meta device). Of a family that the lab cannot read
    inside nothing is said of projections and attention. LabError for encoders with a decoder behind them.
    """
    family = family_of(config)
    if config.is_encoder_decoder:
        raise LabError(
            f"models of type '{config.model_type}' are not supported: they are an encoder and a decoder; give one alone"
        )
    with torch.device("meta"):
        body = AutoModel.from_config(config)
    facts: dict[str, Any] = {
        "family": str(config.model_type),
        "layers": int(config.num_hidden_layers),
        "hidden_size": int(config.hidden_size),
        "attention_heads": int(config.num_attention_heads),
        "head_size": head_size(config),
        "ffn_size": ffn_of(config),
        "vocabulary": int(config.vocab_size),
        "longest_input": positions_of(config),
        "parameters": {
            # What table 4 of MiniLM calls embeddings: the matrix of words alone.
            "word_embeddings": body.get_input_embeddings().weight.numel(),
            **count_parameters(body),
        },
    }
    if not family.tapped:
        return facts
    widths = projection_widths(config)
    facts |= {
        "projections": _projections(body, family),
        "plain_attention": family.plain_scores,
        "attention_adds": _additions(config, family),
        "projection_widths": dict(zip(("query", "key", "value"), widths, strict=True)),
        "relation_heads": divisors(widths[0]),
    }
    if len(set(widths)) > 1:
        facts["relation_heads_grouped"] = divisors(math.gcd(*widths))
    if width is not None:
        facts["student_width"] = width
        facts["relation_heads_with_student"] = divisors(math.gcd(widths[0], width))
    return facts


def divisors(number: int) -> list[int]:
    """All whole numbers that divide `number`, smallest first."""
    return [n for n in range(1, number + 1) if number % n == 0]


def _projections(body: PreTrainedModel, family: Family) -> dict[str, Any]:
    """Path of each layer, and the maps for query, key and value inside it."""
    paths = {id(module): path for path, module in body.named_modules()}
    return {
        "layers": [paths[id(block)] for block in family.blocks(body)],
        "maps": [f"{family.attention}.{name}" for name in family.maps],
    }


def _additions(config: PretrainedConfig, family: Family) -> list[str]:
    """What attention does beyond QKᵀ/√d between all tokens."""
    found = []
    if family.rotary:
        found.append("positions turn queries and keys (rotary)")
    elif family.beside:
        found.append("position terms are added to the scores")
    if family.causal:
        found.append("no token sees a later one (causal)")
    if "sliding_attention" in (getattr(config, "layer_types", None) or []):
        found.append("some layers see a window of tokens only")
    return found
