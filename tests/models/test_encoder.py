"""Vectors of texts against the library's model one text at a time, and against sentence-transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from minilm_lab.errors import LabError
from minilm_lab.models.encoder import Encoder
from minilm_lab.models.pooling import MODES, Pooling, cosine, pool, read_pooling

TEXTS = ["the cat sat", "on", "the mat", "cat " * 40]
PAIRS = [("the cat sat", "on"), ("two", "the cat saw " * 20), ("a", "b")]


@pytest.fixture(scope="module")
def model(tiny_teacher):
    return AutoModel.from_pretrained(tiny_teacher)


@pytest.fixture(scope="module")
def reader(tiny_teacher):
    return AutoTokenizer.from_pretrained(tiny_teacher)


@pytest.mark.parametrize("texts", [TEXTS, PAIRS], ids=["texts", "pairs"])
@pytest.mark.parametrize("layer", [-1, -2, 0, 4])
def test_against_one_text_at_a_time(model, reader, layer, texts):
    got = Encoder(model, reader, length=32, batch_size=3, layer=layer)(texts)
    model.eval()
    for row, text in zip(got, texts, strict=True):
        pair = (text,) if isinstance(text, str) else text
        inputs = reader(*pair, return_tensors="pt", truncation=True, max_length=32)
        with torch.no_grad():
            states = model(**inputs, output_hidden_states=True).hidden_states[layer][0]
        assert torch.allclose(row, states.mean(0), atol=1e-5)


def test_the_model_and_random_numbers_are_left_as_they_were(model, reader):
    model.train()
    model.encoder.layer[0].eval()
    modes = [module.training for module in model.modules()]
    before = torch.random.get_rng_state()
    encoder = Encoder(model, reader, length=32)
    rows = encoder(TEXTS)
    assert torch.equal(before, torch.random.get_rng_state())
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(rows, encoder([(text, None) for text in TEXTS])), "dropout was off"
    assert not rows.requires_grad and all(p.grad is None for p in model.parameters())


def test_a_model_with_a_head_is_read_by_its_body(tiny_teacher, model, reader):
    headed = AutoModelForSequenceClassification.from_pretrained(tiny_teacher)
    assert torch.allclose(
        Encoder(headed, reader, length=32)(TEXTS), Encoder(model, reader, length=32)(TEXTS), atol=1e-6
    )


def test_modes_come_back_after_an_error(model, reader):
    model.train()
    with pytest.raises(LabError, match=r"layer=99: the model has 4 layers"):
        Encoder(model, reader, layer=99)
    with pytest.raises((IndexError, RuntimeError)):
        Encoder(model, reader, length=100)(["cat " * 90])  # beyond the positions
    assert all(module.training for module in model.modules())


def test_no_texts_and_impossible_pooling(model, reader):
    assert Encoder(model, reader)([]).shape == (0, 48)
    with pytest.raises(LabError, match=r"pooling=meen: allowed are cls, .* Did you mean 'mean'\?"):
        Encoder(model, reader, pooling="meen")


def test_mean_and_cosine_by_hand():
    states = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]]])
    assert pool(states, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 4.0]]
    similar = cosine(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 2.0], [3.0, 3.0]]))
    assert similar.tolist() == pytest.approx([0.0, 1.0]) and similar.dtype == torch.float64


def sentence_folder(folder: Path, tiny_teacher: Path, pooling: object, *, dense: bool, normalise: bool):
    """A folder that sentence-transformers itself writes, and its model."""
    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.models import Dense, Normalize, Transformer
    from sentence_transformers.models import Pooling as Theirs

    parts = [Transformer(str(tiny_teacher), max_seq_length=24)]
    parts.append(Theirs(48, pooling_mode=pooling))
    if dense:
        torch.manual_seed(3)
        parts.append(Dense(parts[-1].pooling_output_dimension, 16))
    parts += [Normalize()] * normalise
    theirs = library.SentenceTransformer(modules=parts, device="cpu")
    theirs.save(str(folder))
    return theirs


@pytest.mark.parametrize(
    "pooling, dense, normalise",
    [*((mode, False, False) for mode in MODES), (("cls", "mean"), True, True), ("max", True, False)],
)
def test_a_sentence_transformers_folder_is_honoured(tmp_path, tiny_teacher, pooling, dense, normalise):
    theirs = sentence_folder(tmp_path / "m", tiny_teacher, pooling, dense=dense, normalise=normalise)
    encoder = Encoder.load(str(tmp_path / "m"))
    got = encoder(TEXTS)
    expected = torch.as_tensor(theirs.encode(TEXTS))
    assert encoder.length == 24 and got.shape == expected.shape
    assert torch.allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("reads_prompt", [True, False])
@pytest.mark.parametrize("mode", ["mean", "weightedmean"])
def test_the_default_prompt_of_a_folder(tmp_path, tiny_teacher, reads_prompt, mode):
    theirs = sentence_folder(tmp_path / "m", tiny_teacher, mode, dense=False, normalise=False)
    theirs.prompts, theirs.default_prompt_name = {"query": "the mat on the "}, "query"
    theirs[1].include_prompt = reads_prompt
    theirs.save(str(tmp_path / "m"))
    expected = torch.as_tensor(theirs.encode(TEXTS))
    assert torch.allclose(Encoder.load(str(tmp_path / "m"))(TEXTS), expected, atol=1e-5)


def test_flags_of_older_folders_and_modules_that_are_not_applied(tmp_path, tiny_teacher):
    sentence_folder(tmp_path, tiny_teacher, "mean", dense=False, normalise=False)
    (tmp_path / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 48, "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}'
    )
    found = read_pooling(str(tmp_path))
    assert isinstance(found, Pooling) and found.modes == ("cls",) and found.width(48) == 48
    file = tmp_path / "modules.json"
    file.write_text(file.read_text().replace("Pooling", "LSTM"))
    with pytest.raises(LabError, match=r"modules\.json names a module 'LSTM'"):
        read_pooling(str(tmp_path))
    assert read_pooling(str(tiny_teacher)) is None
