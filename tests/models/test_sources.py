"""Weights that nobody loads, weights under other names, files that decide a result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

from minilm_lab.errors import LabError
from minilm_lab.models import sources
from minilm_lab.models.folders import folder_checksum, model_folder

from .helpers import masked_lm_of, saved, tokenizer_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked-LM model of BERT; tests copy it before they change it."""
    path = tmp_path_factory.mktemp("source") / "bert"
    masked_lm_of("bert").save_pretrained(path)
    tokenizer_of("bert").save_pretrained(path)
    return path


@pytest.fixture
def changed(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "changed"))


def rewrite(folder: Path, rename: Any = None, **more: torch.Tensor) -> None:
    file = folder / "model.safetensors"
    state = {rename(name) if rename else name: tensor for name, tensor in load_file(file).items()}
    save_file({**state, **{name.replace("__", "."): t for name, t in more.items()}}, file, {"format": "pt"})


@pytest.mark.parametrize("loader", [AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification])
@pytest.mark.parametrize("prefix", ["bert__", ""])
def test_a_tensor_that_the_body_has_no_place_for(changed: Path, prefix: str, loader: Any) -> None:
    if not prefix:
        AutoModel.from_pretrained(changed).save_pretrained(changed)
    rewrite(
        changed, **{f"{prefix}encoder__layer__0__attention__self__distance_embedding__weight": torch.ones(3)}
    )
    with pytest.raises(
        LabError, match=r"source: the weights of \S+ hold 1 parameters without a place .*distance"
    ):
        sources.load_model(loader, str(changed), None, "source")


def test_heads_poolers_and_old_buffers_may_be_unused(changed: Path) -> None:
    extra = {
        "bert__pooler__dense__weight": torch.ones(24, 24),
        "classifier__weight": torch.ones(2),
        "bert__embeddings__position_ids": torch.ones(2),
    }
    rewrite(changed, **extra)
    assert sources.load_body(str(changed), None, "source").num_parameters() > 0
    _, lacks = sources.load_model(AutoModelForSequenceClassification, str(changed), None, "source")
    assert lacks == ["classifier.bias", "classifier.weight"], "one is not there, one has another shape"


def test_positions_that_the_library_passes_over(changed: Path) -> None:
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps({**config, "position_embedding_type": "relative_key"}))
    with pytest.raises(
        LabError, match=r"source: config\.json of \S+ has position_embedding_type=relative_key"
    ):
        sources.load_config(str(changed), None, "source")


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"module.{name}",
        lambda name: f"_orig_mod.{name}",
        lambda name: f"model.{name}",
        lambda name: f"model.module.{name}",
        lambda name: name.replace("encoder.layer.0.", "encoder.layer.0._orig_mod."),
        lambda name: f"module.{name.removeprefix('bert.')}",
    ],
)
def test_weights_saved_inside_a_wrapper(changed: Path, rename: Any) -> None:
    expected = AutoModel.from_pretrained(changed).state_dict()
    rewrite(changed, rename)
    read = sources.load_body(str(changed), None, "source").state_dict()
    for name, tensor in expected.items():
        assert torch.equal(tensor, read[name]) or name.startswith("pooler."), name


def test_a_wrapped_model_keeps_its_head(changed: Path) -> None:
    expected = AutoModelForMaskedLM.from_pretrained(changed).state_dict()
    rewrite(changed, lambda name: f"module.{name}")
    model, lacks = sources.load_model(AutoModelForMaskedLM, str(changed), None, "source")
    assert lacks == [] and all(torch.equal(expected[n], t) for n, t in model.state_dict().items())


def test_llamas_own_prefix_is_none_of_a_wrapper(tmp_path: Path) -> None:
    path = saved(tmp_path / "llama", "llama")
    expected = AutoModel.from_pretrained(path).state_dict()
    rewrite(path, lambda name: f"_orig_mod.model.{name}")
    read = sources.load_body(str(path), None, "source").state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in read.items())


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "added_tokens.json", "spm.model", "own_code.py", "1_Pooling/config.json"]
)
def test_every_file_that_is_read_decides(changed: Path, name: str) -> None:
    (changed / "modules.json").write_text('[{"path": ""}, {"path": "1_Pooling"}]')
    before = folder_checksum(changed)
    file = changed / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("one")
    after = folder_checksum(changed)
    file.write_text("two")
    assert len({before, after, folder_checksum(changed)}) == 3


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "LICENSE",
        "training_args.bin",
        "optimizer.pt",
        "x.png",
        ".lock",
        "checkpoint-5/config.json",
    ],
)
def test_what_no_loader_reads_decides_nothing(changed: Path, name: str) -> None:
    before = folder_checksum(changed)
    (changed / name).parent.mkdir(exist_ok=True)
    (changed / name).write_text("anything")
    assert folder_checksum(changed) == before


def test_a_tokenizer_that_needs_a_package(changed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (changed / "tokenizer.json").unlink()
    (changed / "tokenizer_config.json").unlink()
    (changed / "spiece.model").write_bytes(b"pieces")
    assert model_folder(changed, "source") == changed
    monkeypatch.setattr(sources, "_absent", lambda module: module == "sentencepiece")
    with pytest.raises(
        LabError, match=r"source: .*SentencePiece's form \(spiece\.model\).*pip install 'minilm-lab"
    ):
        sources.load_tokenizer(str(changed), None, "source")


def test_what_is_missing_is_named(changed: Path) -> None:
    for file in changed.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(LabError, match=r"source: \S+ has no tokenizer \(none of tokenizer\.json, vocab\.txt"):
        model_folder(changed, "source")


def test_a_body_of_another_size_and_a_tokenizer_without_words(changed: Path) -> None:
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    with pytest.raises(LabError, match=r"other sizes in 9 parameters .*dense\.bias: \(96,\) for \(48,\)"):
        sources.load_body(str(changed), None, "source")
    for file in changed.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(LabError, match=r"source: the tokenizer of \S+ has no words"):
        sources.load_tokenizer(str(changed), None, "source")
