"""A masked-LM head is called what it is: of the checkpoint, untrained, or none."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from models.helpers import FAMILIES, batch, body_of, config_of, masked_lm_of
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

from minilm_lab.errors import LabError
from minilm_lab.exporting.heads import state_of_head, trained_head, zero_head
from minilm_lab.models.mlm import has_head
from minilm_lab.models.resolve import Model

WITH_HEAD = [family for family in FAMILIES if has_head(config_of(family))]


def state(folder: Path) -> str:
    return state_of_head(Model(str(folder), None, "x"), AutoConfig.from_pretrained(folder))


@pytest.mark.parametrize("family", WITH_HEAD)
def test_a_zero_head_knows_nothing_and_leaves_the_body_alone(family: str, tmp_path: Path) -> None:
    body = body_of(family)
    ids, mask = batch(body, "right")
    assert mask is not None
    with torch.no_grad():
        before = body(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    zero_head(body).save_pretrained(tmp_path)

    whole = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        chances = whole(input_ids=ids, attention_mask=mask.long()).logits.double().softmax(-1)
    torch.testing.assert_close(chances, torch.full_like(chances, 1 / body.config.vocab_size))
    again = AutoModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        after = again(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert state(tmp_path) == "zero"


def test_a_zero_head_can_be_trained() -> None:
    model = zero_head(body_of("bert"))
    ids = batch(model.base_model, "none")[0]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(100))
    assert losses[-1] < 0.7 * losses[0]
    dense = model.cls.predictions.transform.dense.weight
    assert torch.count_nonzero(dense.grad) == dense.numel(), "the head's matrix gets no gradient"


def test_a_family_without_such_heads() -> None:
    with pytest.raises(LabError, match="'gpt2' model has no masked-LM head"):
        zero_head(body_of("gpt2"))


@pytest.mark.parametrize("family", WITH_HEAD)
def test_the_head_of_a_checkpoint_is_seen(family: str, tmp_path: Path) -> None:
    model = masked_lm_of(family)
    model.save_pretrained(tmp_path / "whole")
    model.base_model.save_pretrained(tmp_path / "body")
    assert state(tmp_path / "whole") == "present"
    assert state(tmp_path / "body") == "absent"


def test_a_checkpoint_in_pieces(tmp_path: Path) -> None:
    masked_lm_of("bert").save_pretrained(tmp_path, max_shard_size="30KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    assert state(tmp_path) == "present"


def test_old_spelling_of_layer_norms(tmp_path: Path) -> None:
    """As google-bert/bert-base-uncased has it."""
    masked_lm_of("bert").save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in load_file(file).items()
    }
    assert "cls.predictions.transform.LayerNorm.gamma" in old
    save_file(old, file, metadata={"format": "pt"})
    assert state(tmp_path) == "present"


def test_half_a_head_is_none(tmp_path: Path) -> None:
    masked_lm_of("bert").save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file(
        {n: t for n, t in load_file(file).items() if "transform.dense" not in n},
        file,
        metadata={"format": "pt"},
    )
    assert state(tmp_path) == "absent"


def test_weights_that_are_not_safetensors(tmp_path: Path) -> None:
    config_of("bert").save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert state(tmp_path) == "unknown"


def test_damaged_weights(tmp_path: Path) -> None:
    config_of("bert").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(json.dumps({}).encode())
    with pytest.raises(LabError, match=r"model\.safetensors cannot be read"):
        state(tmp_path)


def test_the_trained_head_comes_along(tmp_path: Path) -> None:
    model = masked_lm_of("bert")
    model.save_pretrained(tmp_path)
    ids, mask = batch(model.base_model, "right")
    assert mask is not None
    loaded = trained_head(Model(str(tmp_path), None, "x")).eval()
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(input_ids=ids, attention_mask=mask.long()).logits,
            model(input_ids=ids, attention_mask=mask.long()).logits,
            rtol=0,
            atol=0,
        )
