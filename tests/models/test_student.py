"""The student's shape, its errors, and how its weights start."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from transformers import BertConfig

from minilm_lab.errors import LabError
from minilm_lab.models.student import Initialisation, Student, build_student
from minilm_lab.models.teacher import Teacher

from .helpers import FAMILIES, body_of, config_of, saved

BASE = BertConfig()  # 12 layers, hidden size 768, 12 heads, FFN 3072


def student(**settings: Any) -> Student:
    init = Initialisation(**settings.pop("init", {}))
    return Student(name="s", init=init, **settings)


@pytest.mark.parametrize(
    "absolute, ratio",
    [
        ({"layers": 6, "hidden_size": 384}, {"depth_ratio": 0.5, "width_ratio": 0.5}),
        ({"layers": 4, "hidden_size": 768}, {"depth_ratio": 1 / 3, "width_ratio": 1.0}),
        (
            {"layers": 12, "hidden_size": 384},
            {"layers": 12, "width_ratio": 0.5, "ffn_size": 1536, "heads": 12},
        ),
        ({"layers": 1, "hidden_size": 768}, {"depth_ratio": 0.01, "hidden_size": 768}),
    ],
)
def test_ratios_and_absolute_shapes_are_the_same_student(absolute: dict, ratio: dict) -> None:
    assert student(**absolute).identity(BASE) == student(**ratio).identity(BASE)
    assert Student("a", **absolute).identity(BASE) == Student("b", **absolute).identity(BASE)


def test_shape_by_hand() -> None:
    assert student(depth_ratio=0.5, width_ratio=0.5).shape(BASE) == {
        "layers": 6,
        "hidden_size": 384,
        "heads": 12,
        "ffn_size": 1536,
        "dropout": 0.1,
    }


@pytest.mark.parametrize(
    "changes",
    [{"layers": 5}, {"hidden_size": 192}, {"heads": 6}, {"ffn_size": 100}, {"dropout": 0.0}],
    ids=str,
)
def test_whatever_changes_a_student_changes_its_identity(changes: dict[str, Any]) -> None:
    base: dict[str, Any] = {"layers": 6, "hidden_size": 384}
    assert student(**base | changes).identity(BASE) != student(**base).identity(BASE)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"hidden_size": 384}, r"one of student\.layers and student\.depth_ratio \(got none\)"),
        ({"layers": 6, "depth_ratio": 0.5, "hidden_size": 384}, r"one of student\.layers and .*depth_ratio"),
        ({"layers": 6}, r"one of student\.hidden_size and student\.width_ratio \(got none\)"),
        ({"layers": 0, "hidden_size": 384}, r"student\.layers=0 must be more than 0"),
        ({"layers": 6, "width_ratio": -0.5}, r"student\.width_ratio=-0\.5 must be more than 0"),
        ({"layers": 6, "width_ratio": float("nan")}, r"student\.width_ratio=nan must be more than 0"),
        ({"layers": 6, "hidden_size": 384, "dropout": 1.0}, r"student\.dropout=1\.0 must be in \[0, 1\)"),
        ({"layers": 6, "hidden_size": 384, "heads": 0}, r"student\.heads=0 must be at least 1"),
        ({"layers": 6, "hidden_size": 384, "heads": -2}, r"student\.heads=-2 must be at least 1"),
        ({"layers": 6, "hidden_size": 384, "ffn_size": 0}, r"student\.ffn_size=0 must be at least 1"),
    ],
)
def test_impossible_values(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        student(**settings)


def test_impossible_initialisations() -> None:
    with pytest.raises(
        LabError, match=r"student\.init\.layers=middle: allowed are random, first, last, uniform"
    ):
        Initialisation(layers="middle")
    with pytest.raises(LabError, match=r"student\.init\.embeddings=copied: allowed are random, teacher"):
        Initialisation(embeddings="copied")


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"hidden_size": 384, "heads": 7},
            r"student\.heads=7 does not divide student\.hidden_size=384; these do: \[1, 2, 3, 4, 6, 8, 12",
        ),
        ({"width_ratio": 0.3}, r"student\.heads=12 does not divide student\.hidden_size=230; .*\[1, 2, 5,"),
        ({"width_ratio": 1e-6}, r"student\.heads=12 does not divide student\.hidden_size=1; .*\[1\]"),
        (
            {"hidden_size": 384, "init": {"layers": "first"}},
            r"init\.layers=first .*hidden size 768 \(student: 384\).*init\.layers=random",
        ),
        (
            {"hidden_size": 384, "init": {"embeddings": "teacher"}},
            r"init\.embeddings=teacher .*hidden size 768 \(student: 384\).*init\.embeddings=random",
        ),
        (
            {"hidden_size": 768, "heads": 8, "init": {"layers": "last"}},
            r"init\.layers=last .*teacher's heads 12 \(student\.heads: 8\).*init\.layers=random",
        ),
        (
            {"hidden_size": 768, "ffn_size": 1000, "init": {"layers": "uniform"}},
            r"init\.layers=uniform .*ffn_size 3072 \(student\.ffn_size: 1000\).*init\.layers=random",
        ),
    ],
)
def test_shapes_that_do_not_fit_the_teacher(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        student(layers=6, **settings).shape(BASE)


@pytest.mark.parametrize(
    "layers, depth, distilled, expected",
    [
        ("random", 6, 12, None),
        ("first", 3, 12, [1, 2, 3]),
        ("last", 3, 12, [10, 11, 12]),
        ("last", 3, 10, [8, 9, 10]),
        ("uniform", 6, 12, [2, 4, 6, 8, 10, 12]),
        ("uniform", 4, 12, [3, 6, 9, 12]),
        ("uniform", 12, 12, list(range(1, 13))),
        ("uniform", 1, 12, [12]),
        ("uniform", 5, 21, [4, 8, 13, 17, 21]),
    ],
)
def test_copied_layers(layers: str, depth: int, distilled: int, expected: list[int] | None) -> None:
    which = student(layers=depth, hidden_size=768, init={"layers": layers})
    assert which.copied_layers(depth, distilled) == expected


def test_uniform_names_every_layer_once() -> None:
    for distilled in range(1, 49):
        for depth in range(1, distilled + 1):
            which = student(layers=depth, hidden_size=768, init={"layers": "uniform"})
            found = which.copied_layers(depth, distilled)
            assert found == sorted(set(found)) and found[0] >= 1 and found[-1] == distilled


def test_too_deep_to_copy() -> None:
    which = student(layers=6, hidden_size=768, init={"layers": "last"})
    with pytest.raises(LabError, match=r"init\.layers=last: a student of 6 layers .*the 5 layers.*=random"):
        which.copied_layers(6, 5)


def _layers_of(body) -> list[dict[str, torch.Tensor]]:
    return [layer.state_dict() for layer in body.encoder.layer]


def _same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("which, copied", [("first", [0, 1]), ("last", [1, 2]), ("uniform", [1, 2])])
def test_layers_are_copied_exactly(family: str, which: str, copied: list[int]) -> None:
    teacher = body_of(family)
    built = build_student(student(layers=2, width_ratio=1.0, init={"layers": which}), teacher, 3, seed=0)
    theirs = _layers_of(teacher)
    for mine, number in zip(_layers_of(built), copied, strict=True):
        assert [_same(mine, other) for other in theirs] == [i == number for i in range(3)]
    if family == "mpnet":
        bias = "encoder.relative_attention_bias.weight"
        assert torch.equal(built.get_parameter(bias), teacher.get_parameter(bias))
    assert not torch.equal(built.embeddings.word_embeddings.weight, teacher.embeddings.word_embeddings.weight)


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_are_copied_exactly(family: str) -> None:
    teacher = body_of(family)
    built = build_student(
        student(layers=2, width_ratio=1.0, init={"embeddings": "teacher"}), teacher, 3, seed=0
    )
    names = [name for name, _ in teacher.named_parameters() if name.startswith("embeddings")]
    assert len(names) >= 4
    for name in names:  # ELECTRA's projection of narrow embeddings among them
        assert torch.equal(built.get_parameter(name), teacher.get_parameter(name)), name
    assert not any(_same(mine, other) for mine in _layers_of(built) for other in _layers_of(teacher))


def test_a_copy_shares_no_memory_with_the_teacher() -> None:
    teacher = body_of("bert")
    before = {name: p.clone() for name, p in teacher.named_parameters()}
    built = build_student(
        student(layers=3, width_ratio=1.0, init={"layers": "first", "embeddings": "teacher"}), teacher, 3, 0
    )
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(1)
    assert all(torch.equal(p, before[name]) for name, p in teacher.named_parameters())


@pytest.mark.parametrize("init", [{}, {"layers": "last"}, {"embeddings": "teacher"}], ids=str)
@pytest.mark.parametrize("family", ["bert", "electra-narrow-embeddings", "mpnet"])
def test_the_seed_alone_decides_the_weights(family: str, init: dict[str, str]) -> None:
    teacher, which = body_of(family), student(layers=2, width_ratio=1.0, init=init)
    torch.manual_seed(1)
    first = build_student(which, teacher, 3, seed=5).state_dict()
    torch.manual_seed(2)
    torch.rand(17)
    state = torch.get_rng_state()
    second = build_student(which, teacher, 3, seed=5).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert _same(first, second)
    assert not _same(first, build_student(which, teacher, 3, seed=6).state_dict())


def test_no_gpu_is_reseeded(monkeypatch) -> None:
    """torch.manual_seed would, and fork_rng does not put that back."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda _seed: pytest.fail("reseeded"))
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda _seed: pytest.fail("reseeded"))
    build_student(student(layers=1, width_ratio=1.0), body_of("bert"), 3, seed=5)


def test_no_weight_is_the_same_in_student_and_teacher_by_chance() -> None:
    """A student drawn from seed 0 must not be a teacher drawn from seed 0."""
    built = build_student(student(layers=2, width_ratio=0.5), body_of("bert"), 3, seed=0)
    assert built.config.hidden_size == 12 and built.config.intermediate_size == 48
    assert built.training and all(p.dtype == torch.float32 and p.requires_grad for p in built.parameters())


@pytest.mark.parametrize("dropout, expected", [(None, 0.25), (0.0, 0.0), (0.4, 0.4)])
def test_dropout_in_training_and_in_the_saved_config(dropout: float | None, expected: float) -> None:
    teacher = body_of("bert", hidden_dropout_prob=0.25, attention_probs_dropout_prob=0.25)
    built = build_student(student(layers=2, width_ratio=1.0, dropout=dropout), teacher, 3, seed=0)
    found = [module.p for module in built.modules() if isinstance(module, torch.nn.Dropout)]
    assert len(found) == 1 + 2 * 3 and set(found) == {expected}
    assert (built.config.hidden_dropout_prob, built.config.attention_probs_dropout_prob) == (0.25, 0.25)


def test_ratios_are_of_the_whole_teacher(tmp_path) -> None:
    """A teacher that is loaded up to its distilled layer only has a configuration cut to that."""
    teacher = Teacher(name="t", path=str(saved(tmp_path / "t", num_hidden_layers=6)), layer=4)
    whole = teacher.config(tmp_path)
    half = student(depth_ratio=0.5, width_ratio=1.0)
    built = build_student(half, teacher.body(tmp_path, layers=4), 4, 0, whole)
    assert built.config.num_hidden_layers == len(built.encoder.layer) == half.shape(whole)["layers"] == 3


def test_the_teachers_config_is_left_alone() -> None:
    config = config_of("bert")
    before = config.to_dict()
    student(layers=1, hidden_size=12).config(config)
    assert config.to_dict() == before


@pytest.mark.parametrize("family", FAMILIES)
def test_a_narrower_student_runs(family: str) -> None:
    teacher = body_of(family)
    built = build_student(student(layers=2, width_ratio=0.5), teacher, 3, seed=0)
    ids = torch.full((2, 7), 9)
    assert built(input_ids=ids).last_hidden_state.shape == (2, 7, 12)
    assert re.fullmatch(r"\w*", built.config._name_or_path)
