"""The table of families and what is derived from a configuration."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModel

from minilm_lab.errors import LabError
from minilm_lab.models.families import (
    check_tapped,
    dropout_of,
    ffn_of,
    head_size,
    key_heads,
    positions_of,
    projection_widths,
)
from minilm_lab.models.parameters import count_parameters

from .helpers import FAMILIES, SHAPE, body_of, config_of, library


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_are_the_longest_sequence_that_runs(family: str) -> None:
    body = body_of(family)
    longest = positions_of(body.config)
    offset = body.config.model_type in ("roberta", "xlm-roberta", "mpnet")
    assert longest == 64 - 2 * offset
    with torch.no_grad():
        body(input_ids=torch.full((1, longest), 9))
        # Relative and rotary positions go on.
        if family not in ("deberta-v3", "modernbert", "llama", "qwen2", "qwen3"):
            with pytest.raises((IndexError, RuntimeError)):
                body(input_ids=torch.full((1, longest + 1), 9))


def test_unknown_family_names_the_nearest_and_all() -> None:
    with pytest.raises(
        LabError, match=r"teacher: .*'roberta-prelayernorm'.*Did you mean 'roberta'.*bert, roberta"
    ):
        check_tapped(AutoConfig.for_model("roberta-prelayernorm"), "teacher")


def test_count_parameters_by_hand() -> None:
    vocabulary, d, layers, ffn, positions = (
        SHAPE[n]
        for n in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "intermediate_size",
            "max_position_embeddings",
        )
    )
    found = count_parameters(AutoModel.from_config(config_of("bert")))
    embeddings = (vocabulary + positions + 2 + 2) * d
    transformer = layers * (4 * (d * d + d) + 2 * d * ffn + ffn + d + 2 * 2 * d)
    assert found == {
        "embeddings": embeddings,
        "transformer": transformer,
        "total": embeddings + transformer + d * d + d,
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_but_the_poolers_is_counted_once(family: str) -> None:
    body = body_of(family)
    found = count_parameters(body)
    pooler = sum(p.numel() for n, p in body.named_parameters() if n.startswith("pooler."))
    assert found["embeddings"] + found["transformer"] + pooler == found["total"] == body.num_parameters()
    # Whatever has a row a word or a position is an embedding, and with it little else: norms and a narrow map.
    rows = sum(
        m.weight.numel()
        for n, m in body.named_modules()
        if isinstance(m, torch.nn.Embedding) and not n.startswith("encoder.")
    )
    assert rows <= found["embeddings"] <= rows + 2 * 24 + (24 * 17 if body.config.hidden_size > 16 else 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_widths_of_the_projections(family: str) -> None:
    body = body_of(family)
    seen = library(body, torch.full((1, 4), 9), None).projections[0]
    assert projection_widths(body.config) == tuple(x.shape[-1] for x in seen)
    assert key_heads(body.config) * head_size(body.config) == seen[1].shape[-1]


def test_what_is_told_of_the_feed_forward_block_and_dropout() -> None:
    for kind, ffn, dropout in (
        ("bert", 3072, 0.1),
        ("distilbert", 3072, 0.1),
        ("gpt2", 3072, 0.1),
        ("modernbert", 1152, 0.0),
        ("llama", 11008, 0.0),
    ):
        config = AutoConfig.for_model(kind)
        assert (ffn_of(config), dropout_of(config)) == (ffn, dropout)
