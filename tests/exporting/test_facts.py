"""What is said of a model agrees with the paper and with the library's own modules."""

from __future__ import annotations

import time

import pytest
from models.helpers import FAMILIES, MAPS, body_of, config_of
from transformers import BertConfig, T5Config

from minilm_lab.errors import LabError
from minilm_lab.exporting.facts import divisors, facts_of


@pytest.mark.parametrize(
    ("layers", "hidden", "embeddings", "transformer"),
    [
        (12, 768, 23.4, 85.1),
        (6, 768, 23.4, 42.5),
        (12, 384, 11.7, 21.3),
        (6, 384, 11.7, 10.6),
        (4, 384, 11.7, 7.1),
        (3, 384, 11.7, 5.3),
    ],
)
def test_parameters_are_those_of_the_paper(
    layers: int, hidden: int, embeddings: float, transformer: float
) -> None:
    """MiniLM (arXiv 2002.10957), table 4, in millions; its embeddings are those of words."""
    config = BertConfig(num_hidden_layers=layers, hidden_size=hidden, intermediate_size=4 * hidden)
    counted = facts_of(config)["parameters"]
    assert round(counted["word_embeddings"] / 1e6, 1) == embeddings
    assert round(counted["transformer"] / 1e6, 1) == transformer
    positions_and_types = (512 + 2 + 2) * hidden  # and the LayerNorm's two vectors
    assert counted["embeddings"] == counted["word_embeddings"] + positions_and_types


@pytest.mark.parametrize("family", FAMILIES)
def test_projections_are_where_the_library_has_them(family: str) -> None:
    body = body_of(family)
    facts = facts_of(config_of(family))
    layers, maps = facts["projections"]["layers"], facts["projections"]["maps"]
    assert len(layers) == facts["layers"] == 3
    for number, layer in enumerate(layers):
        for name in maps:
            body.get_submodule(f"{layer}.{name}")
        if body.config.model_type in MAPS:
            expected = tuple(path.format(number) for path in MAPS[body.config.model_type])
            assert tuple(f"{layer}.{name}" for name in maps) == expected
    assert facts["parameters"]["total"] == sum(p.numel() for p in body.parameters())


def test_the_shape_of_a_model() -> None:
    facts = facts_of(config_of("bert"), width=36)
    names = ("family", "layers", "hidden_size", "attention_heads", "head_size", "ffn_size", "vocabulary")
    assert [facts[name] for name in names] == ["bert", 3, 24, 3, 8, 96, 100]
    assert facts["longest_input"] == 64
    assert facts["relation_heads"] == [1, 2, 3, 4, 6, 8, 12, 24]
    assert facts["relation_heads_with_student"] == [1, 2, 3, 4, 6, 12]
    assert facts["plain_attention"] is True and facts["attention_adds"] == []


def test_positions_behind_the_padding_id_do_not_count() -> None:
    assert facts_of(config_of("roberta"))["longest_input"] == 62


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("mpnet", ["position terms"]),
        ("deberta-v3", ["position terms"]),
        ("gpt2", ["causal"]),
        ("llama", ["rotary", "causal"]),
        ("modernbert", ["rotary", "window"]),
    ],
)
def test_attention_that_is_more_than_a_dot_product(family: str, words: list[str]) -> None:
    facts = facts_of(config_of(family))
    assert facts["plain_attention"] is False
    assert len(facts["attention_adds"]) == len(words)
    for text, word in zip(facts["attention_adds"], words, strict=True):
        assert word in text


def test_grouped_keys_and_values() -> None:
    facts = facts_of(config_of("qwen3"))  # 4 heads of 12, one of key and value
    assert facts["projection_widths"] == {"query": 48, "key": 12, "value": 12}
    assert facts["relation_heads"] == [1, 2, 3, 4, 6, 8, 12, 16, 24, 48]
    assert facts["relation_heads_grouped"] == [1, 2, 3, 4, 6, 12]


def test_no_weights_are_made() -> None:
    """A model of 300 GB is described at once."""
    began = time.monotonic()
    facts = facts_of(
        BertConfig(hidden_size=16384, num_hidden_layers=24, num_attention_heads=128, intermediate_size=65536)
    )
    assert facts["parameters"]["total"] > 7e10
    assert time.monotonic() - began < 20


def test_an_encoder_with_a_decoder() -> None:
    with pytest.raises(LabError, match="'t5' are not supported"):
        facts_of(T5Config())


def test_divisors() -> None:
    assert divisors(12) == [1, 2, 3, 4, 6, 12]
    assert divisors(1) == [1]
