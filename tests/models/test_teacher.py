"""Which model the teacher is, what of it is loaded, and what a user is told when it cannot be."""

from __future__ import annotations

import json
import time
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from minilm_lab.errors import LabError
from minilm_lab.models.families import family_of
from minilm_lab.models.folders import folder_checksum
from minilm_lab.models.self_check import self_check
from minilm_lab.models.tapped import Tapped
from minilm_lab.models.taps import Needs
from minilm_lab.models.teacher import Teacher

from .helpers import FAMILIES, batch, saved, teacher


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"hub": "a/b", "path": "c"},
        {"hub": "a/b", "package": "c"},
        {"hub": "a", "package": "b", "path": "c"},
    ],
    ids=str,
)
def test_exactly_one_source(given: dict[str, str]) -> None:
    with pytest.raises(LabError, match=r"one of teacher\.hub, teacher\.package and teacher\.path \(got hub="):
        Teacher(name="x", **given)


def test_unknown_package(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"'all_minilm_l5'.*Did you mean 'all_minilm_l6'"):
        Teacher(name="x", package="all_minilm_l5").locate(tmp_path)


@pytest.mark.parametrize(
    "missing, message",
    [
        ("config.json", r"teacher\.path: \S+broken has no config\.json .*save_pretrained"),
        ("model.safetensors", r"teacher\.path: \S+broken has no weights \(none of model\.safetensors, "),
        ("tokenizer.json", r"teacher\.path: \S+broken has no a? ?tokenizer \(none of tokenizer\.json, "),
    ],
)
def test_a_folder_that_lacks_something(missing: str, message: str, broken: Path, tmp_path: Path) -> None:
    (broken / missing).unlink()
    for use in (lambda t: t.config(tmp_path), lambda t: t.identity(tmp_path), lambda t: t.body(tmp_path)):
        with pytest.raises(LabError, match=message):
            use(teacher(broken))


def test_not_a_folder(folder: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", folder / "config.json"):
        with pytest.raises(LabError, match=rf"teacher\.path: {path} is not a folder"):
            teacher(path).config(tmp_path)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_file(file: str, broken: Path, tmp_path: Path) -> None:
    _cut(broken / file)
    damaged = teacher(broken)
    with pytest.raises(LabError, match=rf"teacher: {broken} cannot be read"):
        damaged.config(tmp_path)
        damaged.tokenizer(tmp_path)
        damaged.body(tmp_path)


def test_weights_that_lack_a_layer_are_not_filled_up_at_random(broken: Path, tmp_path: Path) -> None:
    weights = broken / "model.safetensors"
    kept = {name: t for name, t in load_file(weights).items() if "layer.1.attention.self.query" not in name}
    save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(LabError, match=r"lack 2 parameters of a 'bert' model \(encoder\.layer\.1\.attention"):
        teacher(broken).body(tmp_path)


def test_weights_of_another_width(broken: Path, tmp_path: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"hidden_size": 48}))
    with pytest.raises(LabError, match=rf"teacher: the weights of {broken} have other sizes in 52"):
        teacher(broken).body(tmp_path)


@pytest.mark.parametrize("kind, known", [("bort", r"cannot be read .*bort")])
def test_a_family_that_the_library_does_not_know(kind: str, known: str, broken: Path, tmp_path: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"model_type": kind}))
    with pytest.raises(LabError, match=known):
        teacher(broken).config(tmp_path)


@pytest.mark.parametrize("layer", [0, -4, 4])
def test_layer_out_of_range(layer: int, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=rf"teacher\.layer={layer} is outside 1\.\.3, the layers of tiny"):
        teacher(folder, layer=layer).config(tmp_path)


def test_the_last_layer_is_the_default(folder: Path, tmp_path: Path) -> None:
    config = teacher(folder).config(tmp_path)
    assert teacher(folder).distilled_layer(config) == 3
    assert teacher(folder, layer=2).distilled_layer(config) == 2
    assert teacher(folder).identity(tmp_path) == teacher(folder, layer=3).identity(tmp_path)
    assert teacher(folder).identity(tmp_path) != teacher(folder, layer=2).identity(tmp_path)


def test_identity_is_what_the_folder_holds_not_where_it_lies(
    broken: Path, folder: Path, tmp_path: Path
) -> None:
    assert teacher(folder).identity(tmp_path) == Teacher("other", path=str(broken)).identity(tmp_path)
    (broken / "README.md").write_text("a note")
    assert teacher(folder).identity(tmp_path) == teacher(broken).identity(tmp_path)


@pytest.mark.parametrize(
    "file", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "merges.txt"]
)
def test_identity_changes_with_every_file_that_decides(file: str, broken: Path, tmp_path: Path) -> None:
    (broken / "merges.txt").write_text("a b\n")
    before = folder_checksum(broken, tmp_path)
    data = bytearray((broken / file).read_bytes())
    data[-1] ^= 1
    (broken / file).write_bytes(bytes(data))
    assert folder_checksum(broken, tmp_path) != before


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_layers_that_are_asked_for_are_loaded(family: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "t", family)
    whole = teacher(path).body(tmp_path)
    layout = family_of(whole.config)
    ids, mask = batch(whole, "mixed")
    for layers in (1, 2):
        cut = teacher(path).body(tmp_path, layers=layers)
        shared = layout.shared_layers
        assert len(layout.blocks(cut)) == (3 if shared else layers)
        assert shared or cut.num_parameters() < whole.num_parameters()
        needs = Needs(frozenset({layers}), frozenset({layers}), frozenset({0, layers}))
        few, all_ = (Tapped(body, needs)(ids, mask) for body in (cut, whole))
        for mine, full in zip(few.projections[layers], all_.projections[layers], strict=True):
            assert torch.equal(mine, full)
        assert torch.equal(few.scores[layers], all_.scores[layers])
        assert torch.equal(few.hidden[layers], all_.hidden[layers])  # without the norm after the last layer
        self_check(Tapped(cut, needs), cut.config.vocab_size)


def test_the_body_is_frozen_in_eval_mode_and_the_librarys_own(folder: Path, tmp_path: Path) -> None:
    body = teacher(folder).body(tmp_path)
    assert not any(module.training for module in body.modules())
    assert not any(p.requires_grad for p in body.parameters())
    library = AutoModel.from_pretrained(folder).state_dict()
    assert all(torch.equal(value, library[name]) for name, value in body.state_dict().items())


def test_a_half_precision_checkpoint_is_loaded_as_float32(tmp_path: Path) -> None:
    path = saved(tmp_path / "half", half=True)
    assert json.loads((path / "config.json").read_text())["dtype"] == "float16"
    body = teacher(path).body(tmp_path)
    stored = load_file(path / "model.safetensors")
    assert {p.dtype for p in body.parameters()} == {torch.float32}
    assert all(torch.equal(value, stored[name].float()) for name, value in body.state_dict().items())


def test_a_missing_pooler_is_the_same_every_time(broken: Path, tmp_path: Path) -> None:
    weights = broken / "model.safetensors"
    kept = {name: t for name, t in load_file(weights).items() if not name.startswith("pooler")}
    save_file(kept, weights, metadata={"format": "pt"})
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = teacher(broken).body(tmp_path).pooler.dense.weight
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    assert torch.equal(teacher(broken).body(tmp_path).pooler.dense.weight, first)


def test_the_tokenizer(folder: Path, tmp_path: Path) -> None:
    assert teacher(folder).tokenizer(tmp_path)("w3 w4").input_ids == [2, 8, 9, 3]


@pytest.mark.parametrize("how", ["unreachable", "told to stay offline"])
def test_no_network_and_a_hub_id(how: str, tmp_path: Path, monkeypatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Name or service not known")

    offline = how != "unreachable"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    started = time.monotonic()
    for use in (Teacher.config, Teacher.tokenizer, Teacher.body):
        with pytest.raises(
            LabError, match=r"'nobody/nothing' cannot be loaded .*teacher=path teacher\.path="
        ):
            use(Teacher(name="x", hub="nobody/nothing"), tmp_path)
    assert time.monotonic() - started < 3


def test_the_hub_is_asked_once_for_each_thing_and_not_for_folders(
    folder: Path, tmp_path: Path, monkeypatch
) -> None:
    asked: list[str] = []

    def unreachable(_self: object, name: str, **_: object) -> None:
        asked.append(name)
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    teacher(folder).body(tmp_path)
    assert asked == []
    with pytest.raises(LabError):
        Teacher(name="x", hub="nobody/nothing").body(tmp_path)
    assert asked == ["nobody/nothing"]
