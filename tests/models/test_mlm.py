"""Masked-LM heads: a trained one is loaded whole or refused, a new one is drawn from its seed, either fits a body."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

from minilm_lab.errors import LabError
from minilm_lab.models.mlm import has_head, load_masked_lm, new_masked_lm, with_body
from minilm_lab.models.student import Student, build_student
from minilm_lab.models.tapped import Tapped
from minilm_lab.models.taps import Needs
from minilm_lab.models.teacher import Teacher

from .helpers import FAMILIES, NARROW, batch, body_of, config_of, library, masked_lm_of, saved, tokenizer_of

WITH_HEAD = [name for name in FAMILIES if not name.startswith(("gpt2", "llama", "qwen"))]
IDS = torch.tensor([[7, 9, 30, 4]])


def saved_whole(folder: Path, family: str, half: bool = False) -> Path:
    model = masked_lm_of(family)
    (model.half() if half else model).save_pretrained(folder)
    tokenizer_of(family).save_pretrained(folder)
    return folder


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_which_families_have_heads(family: str) -> None:
    assert has_head(config_of(family)) == (family in WITH_HEAD)


@pytest.mark.parametrize("family", WITH_HEAD)
def test_a_trained_head_is_loaded(family: str, tmp_path: Path) -> None:
    path = saved_whole(tmp_path / "t", family)
    model = Teacher(name="t", path=str(path)).masked_lm(tmp_path)
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert torch.equal(logits(model), logits(AutoModelForMaskedLM.from_pretrained(path)))
    # The body is the one that is loaded alone.
    body = Teacher(name="t", path=str(path)).body(tmp_path)
    with torch.no_grad():
        alone = body(input_ids=IDS).last_hidden_state
        assert torch.equal(model.base_model(input_ids=IDS).last_hidden_state, alone)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_loaded_as_float32(half: torch.dtype, tmp_path: Path) -> None:
    masked_lm_of("bert").to(half).save_pretrained(tmp_path / "t")
    model = load_masked_lm(str(tmp_path / "t"), None, "teacher")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    stored = load_file(tmp_path / "t" / "model.safetensors")
    name = "cls.predictions.transform.dense.weight"
    assert torch.equal(model.get_parameter(name), stored[name].float())


def test_a_tied_decoder_need_not_be_in_the_file(tmp_path: Path) -> None:
    path = saved_whole(tmp_path / "t", "bert")
    expected = logits(AutoModelForMaskedLM.from_pretrained(path))
    weights = {n: t for n, t in load_file(path / "model.safetensors").items() if ".decoder." not in n}
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(logits(load_masked_lm(str(path), None, "teacher")), expected)


@pytest.mark.parametrize("family", WITH_HEAD)
def test_a_checkpoint_without_a_head_is_refused(family: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "t", family)
    command = r"minilm-lab pretrain head=mlm teacher=small corpus=<name>"
    with pytest.raises(LabError, match=rf"has no trained masked-LM head .*{command}"):
        Teacher(name="small", path=str(path)).masked_lm(tmp_path)


def test_a_body_that_lacks_a_layer_is_no_matter_of_the_head(tmp_path: Path) -> None:
    path = saved_whole(tmp_path / "t", "bert")
    weights = {n: t for n, t in load_file(path / "model.safetensors").items() if "layer.1.output" not in n}
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LabError, match=r"lack 4 parameters of a 'bert' model \(bert\.encoder\.layer\.1"):
        load_masked_lm(str(path), None, "teacher")


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_family_without_heads_is_refused(family: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "t", family)
    with pytest.raises(LabError, match=f"a '{family}' model has no masked-LM head; choose an objective"):
        Teacher(name="t", path=str(path)).masked_lm(tmp_path)
    with pytest.raises(LabError, match="no masked-LM head"):
        new_masked_lm(config_of(family), 0)


def test_a_new_head_is_drawn_from_its_seed_alone() -> None:
    config = config_of("bert")
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = new_masked_lm(config, 5).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second, other = new_masked_lm(config, 5).state_dict(), new_masked_lm(config, 6).state_dict()
    assert all(torch.equal(second[name], value) for name, value in first.items())
    assert not all(torch.equal(other[name], value) for name, value in first.items())


@pytest.mark.parametrize("family", WITH_HEAD)
def test_a_student_under_a_head(family: str, tmp_path: Path) -> None:
    shape = Student("s", layers=2, hidden_size=NARROW[family], dropout=0.0)
    body = build_student(shape, body_of(family), 3, seed=0).eval()
    before = body(input_ids=IDS).last_hidden_state
    model = with_body(new_masked_lm(body.config, 1), body)
    assert model.base_model is body
    words = body.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is words or family == "deberta-v3"
    ids, mask = batch(body, "mixed")
    seen = Tapped(model, Needs(logits=True))(ids, mask, torch.tensor([12, 27]))
    expected = library(model, ids, mask).logits
    assert seen.logits is not None and expected is not None
    torch.testing.assert_close(seen.logits, expected.flatten(0, 1)[[12, 27]], rtol=1e-4, atol=1e-5)
    seen.logits.square().sum().backward()
    assert words.grad is not None
    model.save_pretrained(tmp_path)
    again = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert torch.equal(logits(again), logits(model))
    alone = AutoModel.from_pretrained(tmp_path)
    torch.testing.assert_close(alone.eval()(input_ids=IDS).last_hidden_state, before)


def test_body_and_head_that_do_not_fit() -> None:
    with pytest.raises(LabError, match="its hidden_size is 24, the model under it has 12"):
        with_body(masked_lm_of("bert"), body_of("bert", hidden_size=12))
    with pytest.raises(LabError, match="its vocab_size is 100, the model under it has 90"):
        with_body(masked_lm_of("bert"), body_of("bert", vocab_size=90))
    with pytest.raises(LabError, match="its model_type is bert, the model under it has roberta"):
        with_body(masked_lm_of("bert"), body_of("roberta"))


def test_the_config_given_is_left_alone() -> None:
    config = AutoConfig.for_model(
        "bert", num_hidden_layers=1, hidden_size=12, num_attention_heads=2, vocab_size=50
    )
    before = config.to_dict()
    new_masked_lm(config, 0)
    assert config.to_dict() == before
