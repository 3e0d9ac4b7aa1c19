"""The table of families and what is derived from a configuration."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModel

from minilm_lab.errors import LabError
from minilm_lab.models.families import family_of, positions_of
from minilm_lab.models.parameters import count_parameters
from minilm_lab.models.speed import forward_seconds

from .helpers import FAMILIES, SHAPE, body_of, config_of


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_are_the_longest_sequence_that_runs(family: str) -> None:
    body = body_of(family)
    longest = positions_of(body.config)
    assert longest == (64 if body.config.model_type in ("bert", "electra") else 62)
    with torch.no_grad():
        body(input_ids=torch.full((1, longest), 9))
        with pytest.raises((IndexError, RuntimeError)):
            body(input_ids=torch.full((1, longest + 1), 9))


def test_unknown_family_names_the_nearest_and_all() -> None:
    with pytest.raises(LabError, match=r"'roberta-prelayernorm'.*Did you mean 'roberta'.*bert, roberta"):
        family_of(AutoConfig.for_model("roberta-prelayernorm"))


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


def test_speed_of_models_with_few_positions() -> None:
    bodies = {
        "small": body_of("bert", num_hidden_layers=1),
        "short": body_of("roberta", num_hidden_layers=1, max_position_embeddings=20),
    }
    seconds = forward_seconds(bodies, torch.device("cpu"))
    assert set(seconds) == set(bodies) and all(0 < s < 5 for s in seconds.values())
