"""Identity and slug: the names by which a run is found again."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minilm_lab.runs.identity import identity_of, slug

WHAT: dict[str, Any] = {
    "teacher": {"package": "all_minilm_l6", "layer": 6},
    "student": {"layers": 3, "dropout": 0.1},
    "objective": {
        "kind": "RelationObjective",
        "relations": ["qq", "kk", "vv"],
        "heads": 48,
        "weights": None,
    },
    "seed": 0,
    "note": "größer",
}


def test_golden_value() -> None:
    """If this changes, no earlier run is found any more: raise FORMAT on purpose, and only then."""
    assert identity_of("distill", WHAT) == "def15a862b"


def _backwards(value: Any) -> Any:
    return {k: _backwards(value[k]) for k in reversed(value)} if isinstance(value, dict) else value


def test_the_order_of_keys_does_not_matter() -> None:
    turned = _backwards(WHAT)
    assert json.dumps(turned) != json.dumps(WHAT)
    assert identity_of("distill", turned) == identity_of("distill", WHAT)


@pytest.mark.parametrize(
    "path, value",
    [
        ("teacher.package", "mpnet_base"),
        ("teacher.layer", 5),
        ("student.layers", 4),
        ("student.dropout", 0.0),
        ("objective.relations", ["kk", "qq", "vv"]),
        ("objective.weights", [1.0, 1.0, 1.0]),
        ("seed", 1),
        ("seed", None),
        ("note", ""),
        ("more", None),
    ],
)
def test_every_value_matters(path: str, value: Any) -> None:
    changed = copy.deepcopy(WHAT)
    *parents, last = path.split(".")
    node = changed
    for parent in parents:
        node = node[parent]
    node[last] = value
    assert identity_of("distill", changed) != identity_of("distill", WHAT)


def test_the_command_matters() -> None:
    assert identity_of("finetune", WHAT) != identity_of("distill", WHAT)


@pytest.mark.parametrize(
    "parts, expected",
    [
        (("bert_base", "l6_h384", "qq.kk.vv-48"), "bert_base-l6_h384-qq.kk.vv-48"),
        (("a", "", None, "b", 0), "a-b-0"),
        (("../../etc/passwd",), "etc-passwd"),
        (("..",), "run"),
        ((), "run"),
        (("/",), "run"),
        (("größe ✓",), "gr-e"),
        (("./.hidden",), "hidden"),
        (("-rf",), "rf"),
        (("a\x00b\n",), "a-b"),
        (("a" * 200,), "a" * 80),
        (("a" * 79 + "-b",), "a" * 79),
    ],
)
def test_slug(parts: tuple[object, ...], expected: str) -> None:
    assert slug(*parts) == expected


@given(st.lists(st.text()))
def test_a_slug_is_always_safe(parts: list[str]) -> None:
    made = slug(*parts)
    assert re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?", made)
