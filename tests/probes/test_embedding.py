"""Embeddings against the library's model, one text at a time."""

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from minilm_lab.probes.embedding import cosine, embed, mean_pool

TEXTS = [("the cat sat", None), ("on", None), ("the mat", None), ("cat " * 40, None)]
PAIRS = [("the cat sat", "on"), ("two", "the cat saw " * 20), ("a", "b")]


@pytest.fixture(scope="module")
def model(tiny_teacher):
    return AutoModel.from_pretrained(tiny_teacher)


@pytest.fixture(scope="module")
def reader(tiny_teacher):
    return AutoTokenizer.from_pretrained(tiny_teacher)


@pytest.mark.parametrize("texts", [TEXTS, PAIRS], ids=["texts", "pairs"])
@pytest.mark.parametrize("layer", [-1, -2, 0])
def test_against_one_text_at_a_time(model, reader, layer, texts):
    got = embed(model, reader, texts, length=32, batch_size=3, layer=layer)
    model.eval()
    for row, (first, second) in zip(got, texts, strict=True):
        inputs = reader(first, second, return_tensors="pt", truncation=True, max_length=32)
        with torch.no_grad():
            states = model(**inputs, output_hidden_states=True).hidden_states[layer][0]
        assert torch.allclose(row, states.mean(0), atol=1e-5)


def test_the_model_and_random_numbers_are_left_as_they_were(model, reader):
    model.train()
    model.encoder.layer[0].eval()
    modes = [module.training for module in model.modules()]
    before = torch.random.get_rng_state()
    rows = embed(model, reader, TEXTS, length=32)
    assert torch.equal(before, torch.random.get_rng_state())
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(rows, embed(model, reader, TEXTS, length=32)), "dropout was off"
    assert not rows.requires_grad and all(p.grad is None for p in model.parameters())


def test_a_model_with_a_head_is_read_by_its_body(tiny_teacher, model, reader):
    headed = AutoModelForSequenceClassification.from_pretrained(tiny_teacher)
    assert torch.allclose(
        embed(headed, reader, TEXTS, length=32), embed(model, reader, TEXTS, length=32), atol=1e-6
    )


def test_modes_come_back_after_an_error(model, reader):
    model.train()
    with pytest.raises(IndexError):
        embed(model, reader, TEXTS, length=32, layer=99)
    assert all(module.training for module in model.modules())


def test_mean_pool_and_cosine_by_hand():
    states = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]]])
    assert mean_pool(states, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 4.0]]
    found = cosine(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 2.0], [3.0, 3.0]]))
    assert found.tolist() == pytest.approx([0.0, 1.0])
