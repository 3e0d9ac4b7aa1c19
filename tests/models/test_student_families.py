"""Students of every family, and of another family than the teacher's."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from minilm_lab.errors import LabError
from minilm_lab.models.families import FAMILIES as KINDS
from minilm_lab.models.families import positions_of
from minilm_lab.models.self_check import self_check
from minilm_lab.models.student import Initialisation, Student, build_student
from minilm_lab.models.tapped import Tapped
from minilm_lab.models.taps import Needs

from .helpers import FAMILIES, NARROW, batch, body_of, config_of, tokenizer_of


def student(**settings: Any) -> Student:
    init = Initialisation(**settings.pop("init", {}))
    return Student(name="s", init=init, **settings)


def _same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_narrower_student_runs(family: str) -> None:
    teacher, width = body_of(family), NARROW[family]
    built = build_student(student(layers=2, hidden_size=width), teacher, 3, seed=0)
    ids = torch.full((2, 7), 9)
    assert built(input_ids=ids).last_hidden_state.shape == (2, 7, width)
    assert re.fullmatch(r"\w*", built.config._name_or_path)
    view = Tapped(built, Needs(projections=frozenset({2}), scores=frozenset({1})))
    self_check(view, 100)


def test_the_kinds_of_layers_follow_the_layers_they_come_from() -> None:
    """ModernBERT: layers 1, 4, 7, … see all tokens, the others a window."""
    teacher = AutoConfig.for_model("modernbert")  # 22 layers
    full = [n for n, kind in enumerate(teacher.layer_types, 1) if kind == "full_attention"]
    assert full == [1, 4, 7, 10, 13, 16, 19, 22]
    for layers, init, expected in (
        (11, "random", [4, 10, 16, 22]),  # every second
        (11, "first", [1, 4, 7, 10]),
        (8, "last", [16, 19, 22]),
        (1, "random", [22]),
    ):
        which = student(layers=layers, hidden_size=768, ffn_size=1152, init={"layers": init})
        found = which.config(teacher).layer_types
        come_from = which.copied_layers(layers, 22) or [round((i + 1) * 22 / layers) for i in range(layers)]
        assert [come_from[i] for i, kind in enumerate(found) if kind == "full_attention"] == expected
        assert len(found) == layers


def test_shapes_of_gated_and_grouped_models() -> None:
    """By hand: Llama-like with 12 heads of 64 that share 4, FFN 2048; Qwen3's heads are wider than hidden / heads."""
    shared = {"num_hidden_layers": 4, "hidden_size": 768, "num_attention_heads": 12, "num_key_value_heads": 4}
    llama = AutoConfig.for_model("llama", **shared, intermediate_size=2048)
    config = student(depth_ratio=0.5, width_ratio=0.5).config(llama)
    assert (config.intermediate_size, config.num_key_value_heads, config.head_dim) == (1024, 4, 32)
    assert student(layers=2, hidden_size=384, heads=6).config(llama).num_key_value_heads == 2
    qwen = AutoConfig.for_model("qwen3", **shared, head_dim=128, intermediate_size=3072)
    config = student(depth_ratio=0.5, width_ratio=0.5).config(qwen)
    assert (config.head_dim, config.num_key_value_heads, len(config.layer_types)) == (64, 4, 2)
    assert student(layers=1, width_ratio=1.0).config(qwen).head_dim == 128


@pytest.mark.parametrize(
    "teacher, settings, message",
    [
        (("llama", {"num_key_value_heads": 2}), {"heads": 3}, r"heads=3 cannot share .* 4 heads share 2"),
        (("llama", {}), {"hidden_size": 12}, r"heads of size 3; rotary .* even"),
        (("qwen3", {"head_dim": 10}), {"hidden_size": 16}, r"no whole head .*4 heads of 10, hidden size 24"),
        (("bert", {}), {"family": "qwen2"}, r"student\.family=qwen2: .*student\.family=qwen3"),
        (("bert", {}), {"family": "brt"}, r"student\.family=brt .*Did you mean 'bert'"),
        (("bert", {}), {"family": "mpnet"}, r"student\.family=mpnet .*pads with id 0"),
        (
            ("bert", {}),
            {"family": "roberta", "init": {"layers": "first"}},
            r"init\.layers=first .*'bert' model.*student\.family=roberta.*init\.layers=random",
        ),
        (
            ("albert", {}),
            {"init": {"untrained": "random"}},
            r"init\.untrained=random: all layers of 'albert' models share",
        ),
        (
            ("bert", {}),
            {"hidden_size": 12, "init": {"untrained": "teacher"}},
            r"init\.untrained=teacher .*hidden size 24 \(student: 12\).*init\.untrained=random",
        ),
        (
            ("bert", {}),
            {"ffn_size": 48, "init": {"untrained": "teacher"}},
            r"init\.untrained=teacher .*ffn_size 96 \(student\.ffn_size: 48\)",
        ),
        (
            ("bert", {}),
            {"hidden_size": 48, "init": {"embeddings": "projected"}},
            r"init\.embeddings=projected .*width 24; .*hidden size 48 is wider",
        ),
    ],
)
def test_students_that_cannot_be(teacher: tuple[str, dict], settings: dict[str, Any], message: str) -> None:
    name, changes = teacher
    with pytest.raises(LabError, match=message):
        student(**{"layers": 2, "hidden_size": 24, **settings}).shape(config_of(name, **changes))


OTHERS = [kind for kind in KINDS if kind not in ("bert", "mpnet", "qwen2")]


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("embeddings", ["random", "teacher", "projected"])
def test_a_student_of_another_family(kind: str, embeddings: str, tmp_path: Path) -> None:
    teacher = body_of("bert")
    width = 24 if embeddings == "teacher" else 12
    which = student(layers=2, hidden_size=width, family=kind, init={"embeddings": embeddings})
    if kind in ("llama", "qwen2", "qwen3") and width == 12:
        which = dataclasses.replace(which, heads=2)
    built = build_student(which, teacher, 3, seed=0)
    assert (
        built.config.model_type == kind and positions_of(built.config) == positions_of(teacher.config) == 64
    )
    assert built.config.vocab_size == 100 and built.config.pad_token_id == 0
    ids, mask = batch(teacher, "mixed")
    view = Tapped(built, Needs(projections=frozenset({2}), scores=frozenset({1}), hidden=frozenset({0, 1})))
    assert view(ids, mask).projections[2].query.shape == (3, 11, width)
    self_check(view, 100)
    longest = torch.full((1, 64), 9)
    assert built(input_ids=longest).last_hidden_state.shape == (1, 64, width)
    words, mine = (body.get_input_embeddings().weight for body in (teacher, built))
    if mine.shape == words.shape:
        assert torch.equal(mine, words) == (embeddings != "random")
    built.save_pretrained(tmp_path)
    tokenizer_of("bert").save_pretrained(tmp_path)
    text = "w3 w4"
    assert AutoTokenizer.from_pretrained(tmp_path)(text).input_ids == tokenizer_of("bert")(text).input_ids
    again = AutoModel.from_pretrained(tmp_path)
    assert _same(again.state_dict(), built.state_dict())
    with torch.no_grad():
        assert torch.equal(
            again(input_ids=longest).last_hidden_state, built.eval()(input_ids=longest).last_hidden_state
        )
