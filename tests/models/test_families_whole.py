"""Families that the lab cannot read inside: sizes by their common names, used whole, refused where they are tapped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PretrainedConfig

from minilm_lab.errors import LabError
from minilm_lab.exporting.facts import facts_of
from minilm_lab.models.encoder import Encoder
from minilm_lab.models.families import FAMILIES, dropout_of, ffn_of, key_heads, positions_of
from minilm_lab.models.student import Student
from minilm_lab.models.tapped import Tapped
from minilm_lab.models.taps import Needs
from minilm_lab.models.teacher import Teacher
from minilm_lab.objectives.relations import RelationObjective

from .helpers import SHAPE, tokenizer_of

SHARED: dict[str, Any] = {**SHAPE, "num_attention_heads": 4, "pad_token_id": 0, "hidden_size": 24}
WHOLE: dict[str, dict[str, Any]] = {
    "mistral": {"num_key_value_heads": 2},
    "gemma": {"num_key_value_heads": 1, "head_dim": 6},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 6},
    "gemma3_text": {"num_key_value_heads": 2, "head_dim": 6},
    "phi3": {"num_key_value_heads": 2},
    "olmo2": {"num_key_value_heads": 2},
    "smollm3": {"num_key_value_heads": 2},
    "gpt_neox": {},
    "roberta-prelayernorm": {},
}


def config_of(kind: str) -> PretrainedConfig:
    return AutoConfig.for_model(kind, **{**SHARED, **WHOLE[kind]})


@pytest.fixture(params=WHOLE)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    loader = AutoModel if request.param == "roberta-prelayernorm" else AutoModelForCausalLM
    loader.from_config(config_of(request.param)).save_pretrained(tmp_path)
    tokenizer_of("bert").save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("kind", WHOLE)
def test_sizes_from_the_names_that_configurations_share(kind: str) -> None:
    config = config_of(kind)
    assert kind not in FAMILIES
    assert (ffn_of(config), positions_of(config)) == (96, 64)
    assert key_heads(config) == WHOLE[kind].get("num_key_value_heads", 4)
    assert 0 <= dropout_of(config) < 1


def test_a_whole_model_is_described_and_read(folder: Path) -> None:
    teacher = Teacher(name="tiny", path=str(folder))
    config = teacher.config(folder)
    facts = facts_of(config)
    whole = AutoModel.from_pretrained(folder)
    assert facts["parameters"]["embeddings"] >= facts["parameters"]["word_embeddings"] == 100 * 24
    assert facts["parameters"]["total"] == sum(p.numel() for p in whole.parameters())
    assert "projections" not in facts
    encoder = Encoder.load(str(folder))
    with torch.no_grad():
        inputs = encoder.tokenizer("w1 w2 w3", return_tensors="pt")
        taken = {n: t for n, t in inputs.items() if n in ("input_ids", "attention_mask")}
        expected = whole.eval()(**taken).last_hidden_state[0].mean(0)
    assert torch.allclose(encoder(["w1 w2 w3", "w4"])[0], expected, atol=1e-5)


def test_what_reads_inside_refuses(folder: Path) -> None:
    teacher = Teacher(name="tiny", path=str(folder))
    config = teacher.config(folder)
    kind = str(config.model_type)
    with pytest.raises(LabError, match=rf"models of type '{kind}' .*Supported: bert, roberta"):
        Tapped(teacher.body(folder), Needs(projections=frozenset({1})))
    with pytest.raises(LabError, match=rf"models of type '{kind}'"):
        RelationObjective(relations=["qq"], heads=4).bind(config, config, 3)
    with pytest.raises(LabError, match=rf"student: models of type '{kind}'"):
        Student(name="half", depth_ratio=0.5, width_ratio=1.0).config(config)


def test_no_limit_of_its_own() -> None:
    assert positions_of(AutoConfig.for_model("bloom")) > 100_000
