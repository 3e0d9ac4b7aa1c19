"""From a composed config to typed objects: every mistake is named with its full key, its value and what is right."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Optional

import pytest
from omegaconf import MISSING, OmegaConf

from minilm_lab import config
from minilm_lab.errors import LabError
from minilm_lab.models.student import Initialisation, Student
from minilm_lab.objectives.relations import RelationObjective
from minilm_lab.training.settings import Optim, Scale


class Kind(StrEnum):
    good = "good"
    better = "better"


@dataclass
class Inner:
    count: int = 1
    must: str = MISSING

    def __post_init__(self) -> None:
        if self.count < 0:
            raise LabError(f"outer.inner.count={self.count} must not be negative")


@dataclass
class Outer:
    needed: str
    steps: int = 3
    rate: float = 0.1
    flag: bool = False
    kind: Kind = Kind.good
    maybe: Optional[int] = None
    inner: Inner = field(default_factory=lambda: Inner(must="default"))
    many: dict[str, Inner] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)


def outer(**values: Any) -> Outer:
    return config.from_values(Outer, {"needed": "x", "inner": {"must": "y"}} | values, "outer")


def test_values_become_the_dataclass_with_its_types() -> None:
    made = outer(rate=3, kind="better", maybe=4, many={"a": {"must": "z"}}, numbers=[1, 2])
    assert type(made) is Outer and type(made.inner) is Inner and type(made.rate) is float
    assert made == Outer(
        "x",
        rate=3.0,
        kind=Kind.better,
        maybe=4,
        inner=Inner(must="y"),
        many={"a": Inner(1, "z")},
        numbers=[1, 2],
    )
    assert config.from_values(Outer, {"needed": "x"}, "outer").inner == Inner(must="default")


@pytest.mark.parametrize(
    "values, message",
    [
        (
            {"stepz": 1},
            r"outer\.stepz: no such setting\. Did you mean 'steps'\? outer has: flag, inner, kind, ",
        ),
        ({"zzz": 1}, r"outer\.zzz: no such setting\. outer has: flag, inner, "),
        (
            {"inner": {"cuont": 1}},
            r"outer\.inner\.cuont: .*Did you mean 'count'\? outer\.inner has: count, must",
        ),
        (
            {"many": {"a": {"muts": 1}}},
            r"outer\.many\.a\.muts: .*Did you mean 'must'\? outer\.many\.a has: count",
        ),
        ({"steps": "many"}, r"outer\.steps='many': .*Integer"),
        ({"steps": 2.5}, r"outer\.steps=2\.5: .*Integer"),
        ({"steps": True}, r"outer\.steps=True: .*Integer"),
        ({"steps": None}, r"outer\.steps=None: .*'int'"),
        ({"steps": [1]}, r"outer\.steps=\[1\]: "),
        ({"rate": "fast"}, r"outer\.rate='fast': .*Float"),
        ({"flag": "perhaps"}, r"outer\.flag='perhaps': .*bool"),
        ({"kind": "worse"}, r"outer\.kind='worse': .*good, better"),
        ({"maybe": "x"}, r"outer\.maybe='x': .*Integer"),
        ({"numbers": 3}, r"outer\.numbers=3: a list is wanted; write 'outer\.numbers=\[3\]'"),
        ({"numbers": "x"}, r"outer\.numbers=x: a list is wanted; write 'outer\.numbers=\[x\]'"),
        ({"numbers": [1, "two"]}, r"outer\.numbers\.1='two': .*Integer"),
        ({"inner": 3}, r"outer.*3"),
        ({"inner": None}, r"outer\.inner=None: "),
        ({"inner": {"must": "y", "count": "q"}}, r"outer\.inner\.count='q': .*Integer"),
        ({"many": {"a": {"must": "y", "count": 0.5}}}, r"outer\.many\.a\.count=0\.5: .*Integer"),
        ({"needed": "???"}, r"outer\.needed must be given, for example outer\.needed=…"),
        ({"needed": False}, r"outer\.needed=False: a word is wanted, and YAML reads yes, no"),
        ({"many": {"a": {"must": True}}}, r"outer\.many\.a\.must=True: a word is wanted"),
        ({"many": {"a": {}}}, r"outer\.many\.a\.must must be given"),
        ({"inner": {"must": "y", "count": -1}}, r"outer\.inner\.count=-1 must not be negative"),
    ],
    ids=str,
)
def test_every_mistake_names_key_and_value(values: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        outer(**values)


def test_a_required_field_that_is_left_out() -> None:
    with pytest.raises(LabError, match=r"outer\.needed must be given"):
        config.from_values(Outer, {}, "outer")


def test_build_real_groups() -> None:
    node = OmegaConf.create(
        {
            "student": {
                "_target_": "minilm_lab.models.student.Student",
                "name": "s",
                "layers": "${depth}",
                "width_ratio": 1,
                "init": {"layers": "last"},
            },
            "depth": 3,
        }
    )
    made = config.build(node.student, "student")
    assert made == Student("s", layers=3, width_ratio=1.0, init=Initialisation(layers="last"))
    assert node.student._target_  # the config itself is left whole


@pytest.mark.parametrize(
    "values, message",
    [
        (
            {"_target_": "minilm_lab.training.settings.Optim", "lr": 0},
            r"optim\.lr=0\.0 must be more than 0",
        ),
        (
            {"_target_": "minilm_lab.training.settings.Optim", "lerning_rate": 1},
            r"part\.lerning_rate: no such setting",
        ),
        ({"_target_": "os.system"}, r"part\._target_=os\.system is not part of the lab"),
        ({"_target_": "minilm_labour.x.Y"}, r"minilm_labour\.x\.Y is not part of the lab"),
        ({"_target_": "minilm_lab.nothing.Here"}, r"minilm_lab\.nothing\.Here cannot be imported"),
        (
            {"_target_": "minilm_lab.models.student.Pupil"},
            r"minilm_lab\.models\.student\.Pupil cannot be imported",
        ),
        ({"_target_": "minilm_lab.errors.LabError"}, r"minilm_lab\.errors\.LabError is not a dataclass"),
        ({"_target_": "minilm_lab.models.student.build_student"}, r"build_student is not a dataclass"),
        ({"_target_": "minilm_lab.registry.os"}, r"minilm_lab\.registry\.os is not a dataclass"),
        (
            {"_target_": "minilm_lab.training.settings.Scale", "name": "${nowhere}"},
            r"part\.name: .*nowhere",
        ),
    ],
    ids=str,
)
def test_build_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        config.build(OmegaConf.create(values), "part")


@pytest.mark.parametrize(
    "node", [None, "bert_base", OmegaConf.create({"lr": 1}), OmegaConf.create([1])], ids=str
)
def test_a_group_without_a_choice(node: Any) -> None:
    with pytest.raises(LabError, match=r"teacher: choose a file of the group conf/teacher"):
        config.build(node, "teacher")


def test_nothing_outside_the_lab_is_imported(monkeypatch) -> None:
    monkeypatch.setattr(config.importlib, "import_module", lambda name: pytest.fail(f"imported {name}"))
    with pytest.raises(LabError, match="not part of the lab"):
        config.locate("antigravity.Fly", "part")


def test_plain_is_json() -> None:
    made = {"a": [Optim(), Scale(name="s")], "b": RelationObjective(), 3: (1, None)}
    plain = config.plain(made)
    assert json.loads(json.dumps(plain)) == plain
    assert plain["a"][0]["betas"] == [0.9, 0.999] and plain["3"] == [1, None]
    relations = {"relations": ["qq", "kk", "vv"], "heads": 48, "weights": None}
    assert plain["b"] == {**relations, "map": "last", "pairs": None}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_in_a_list_must_be_finite(value: float) -> None:
    with pytest.raises(LabError, match=r"optim\.betas\[1\]=(nan|inf) must be a finite number"):
        config.from_values(Optim, {"betas": [0.9, value]}, "optim")
