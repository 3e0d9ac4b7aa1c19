"""The student's shape, its errors, and how its weights start."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BertConfig

from minilm_lab.errors import LabError
from minilm_lab.models.student import Initialisation, Student, build_student
from minilm_lab.models.teacher import Teacher

from .helpers import config_of, saved

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
    with pytest.raises(
        LabError, match=r"student\.init\.embeddings=copied: allowed are random, teacher, projected"
    ):
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
            r"init\.embeddings=teacher .*hidden size 768 \(student: 384\).*init\.embeddings=projected",
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


def _same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


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


def test_impossible_untrained() -> None:
    with pytest.raises(LabError, match=r"init\.untrained=copied: allowed are null, random, teacher"):
        Initialisation(untrained="copied")


def test_identity_of_what_is_not_usual() -> None:
    usual = student(layers=6, width_ratio=1.0).identity(BASE)
    assert usual["init"] == {"layers": "random", "embeddings": "random"} and "family" not in usual

    def told(**settings: Any) -> dict[str, Any]:
        return student(layers=6, width_ratio=1.0, **settings).identity(BASE)

    assert told(family="bert") == told(init={"untrained": "random"}) == usual
    copied = told(init={"layers": "last", "embeddings": "teacher"})
    assert told(init={"layers": "last", "embeddings": "projected", "untrained": "teacher"}) == copied
    assert told(init={"untrained": "teacher"})["init"]["untrained"] == "teacher"
    assert told(init={"layers": "last", "untrained": "random"})["init"]["untrained"] == "random"
    assert told(family="roberta")["family"] == "roberta"
    narrow = student(layers=6, hidden_size=384, init={"embeddings": "projected"}).identity(BASE)
    assert narrow["init"]["embeddings"] == "projected"
