"""A tiny causal model that reads and writes bytes, in a folder, and asked for lists."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from data.helpers import byte_bpe
from models.helpers import drawn
from transformers import LlamaConfig, LlamaForCausalLM

from minilm_lab.models.language_model import LanguageModel
from minilm_lab.studies.knowledge.gold_lists import GoldList
from minilm_lab.studies.knowledge.prompts import Asker, asked

GOLDS = [GoldList(str(n), f"things {n}", (("x",),)) for n in range(3)]
LENGTH = 9


def save_causal(folder: Path, seed: int = 3, width: int = 24, specials: bool = False) -> Path:
    """Random Llama with two layers over a byte-level vocabulary, and its tokenizer."""
    tokenizer = byte_bpe(specials=specials)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 5,  # rows that no token has, as padded vocabularies do
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    drawn(LlamaForCausalLM(config), seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("causal") / "model")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the same vocabulary, other width, other weights."""
    return save_causal(tmp_path_factory.mktemp("causal") / "other", seed=4, width=16)


@pytest.fixture(scope="session")
def asker(causal: Path) -> Asker:
    model = LanguageModel.load(str(causal))
    with torch.no_grad():  # a random model closes few quotes
        quote = model.ids('"', begins=False)[0]
        model.model.get_output_embeddings().weight[quote] *= 1.5
    return Asker(model, LENGTH)


@pytest.fixture(scope="session")
def prompts(asker: Asker) -> list[list[int]]:
    return [asked(asker.model, gold, "bare") for gold in GOLDS]
