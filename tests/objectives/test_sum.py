"""Sums of objectives: what is read, computed and told, from a composed config too, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from minilm_lab import config
from minilm_lab.errors import LabError
from minilm_lab.models.taps import Needs
from minilm_lab.objectives.mlm import MLMObjective
from minilm_lab.objectives.mlm_kd import MLMKDObjective
from minilm_lab.objectives.none import NoObjective
from minilm_lab.objectives.relations import RelationObjective
from minilm_lab.objectives.sum import SumObjective
from minilm_lab.objectives.tinybert import TinyBERTObjective
from minilm_lab.objectives.value_mse import ValueMSEObjective

from .helpers import MASK, bert, bind, views_of

STUDENT, TEACHER = bert(12, layers=2), bert(24, layers=4)
RELATIONS = {"_target_": "minilm_lab.objectives.relations.RelationObjective", "heads": 3, "relations": ["qk"]}
MLM_KD = {"_target_": "minilm_lab.objectives.mlm_kd.MLMKDObjective", "temperature": 2.0}


def whole() -> SumObjective:
    """Every kind of need, two lifts, a nested sum."""
    inner = SumObjective({"tiny": TinyBERTObjective(), "kd": MLMKDObjective()}, {"kd": 0.5})
    terms = {"minilm": RelationObjective(["qk", "vv"], None), "value": ValueMSEObjective(), "inner": inner}
    return SumObjective(terms, {"value": 3.0})


def test_losses_are_the_weighted_losses_of_the_terms() -> None:
    objective = whole()
    bound = bind(objective, STUDENT, TEACHER, 4)
    views = views_of(bound, STUDENT, TEACHER, MASK)
    found = bound(views)
    weights = {
        "minilm/loss_qk": 1.0,
        "minilm/loss_vv": 1.0,
        "value/loss_qk": 3.0,
        "value/loss_value": 3.0,
        "inner/tiny/loss_attention": 1.0,
        "inner/tiny/loss_hidden": 1.0,
        "inner/kd/loss_soft": 0.5,
    }
    assert list(found) == list(weights)
    terms: dict[str, Any] = {**bound.terms, **bound.terms["inner"].terms}
    for name, weight in weights.items():
        *_, term, loss = name.split("/")
        torch.testing.assert_close(found[name], weight * terms[term](views)[loss])


def test_needs_are_united_and_lifts_are_nested() -> None:
    bound = bind(whole(), STUDENT, TEACHER, 4)
    ours, theirs = frozenset({1, 2}), frozenset({2, 4})
    assert bound.reads == (
        Needs(frozenset({2}), ours, ours | {0}, True),
        Needs(frozenset({4}), theirs, theirs | {0}, True),
    )
    assert sorted(n for n, _ in bound.named_parameters()) == [
        "terms.inner.terms.tiny.lift.bias",
        "terms.inner.terms.tiny.lift.weight",
        "terms.value.lift.weight",
    ]
    assert not list(bind(whole(), TEACHER, TEACHER, 4).parameters())


def test_gradient_reaches_every_lift() -> None:
    bound = bind(whole(), STUDENT, TEACHER, 4)
    views = views_of(bound, STUDENT, TEACHER, MASK)
    torch.stack(list(bound(views).values())).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in bound.parameters())


def test_from_a_composed_config() -> None:
    node = OmegaConf.create(
        {
            "_target_": "minilm_lab.objectives.sum.SumObjective",
            "terms": {"minilm": RELATIONS, "mlm_kd": MLM_KD},
            "weights": {"mlm_kd": 2},
        }
    )
    built = config.build(node, "objective")
    assert built == SumObjective(
        {"minilm": RelationObjective(["qk"], 3), "mlm_kd": MLMKDObjective(2.0)}, {"mlm_kd": 2.0}
    )
    bound = bind(built, STUDENT, TEACHER, 4)
    assert json.loads(json.dumps(bound.identity())) == {
        "kind": "SumObjective",
        "terms": {
            "minilm": {"kind": "RelationObjective", "relations": ["qk"], "heads": 3, "weights": None},
            "mlm_kd": bound.terms["mlm_kd"].identity(),
        },
        "weights": {"minilm": 1.0, "mlm_kd": 2.0},
    }
    assert bound.label() == "qk-3+mlm_kd"


def test_a_weight_of_1_need_not_be_given() -> None:
    one, other = (
        bind(SumObjective({"mlm": MLMObjective()}, weights), STUDENT, TEACHER, 4)
        for weights in ({}, {"mlm": 1.0})
    )
    assert one.identity() == other.identity()


def test_the_share_of_masked_tokens() -> None:
    relations = RelationObjective(heads=3)
    assert bind(SumObjective({"a": relations}), STUDENT, TEACHER).masked_share == 0
    terms = {"a": relations, "b": MLMObjective(0.2), "c": MLMKDObjective(mask_probability=0.2)}
    assert bind(SumObjective(terms), STUDENT, TEACHER).masked_share == 0.2
    with pytest.raises(
        LabError,
        match=r"objective\.terms\.b\.mask_probability=0\.2, objective\.terms\.c\.mask_probability=0\.15: .* equal",
    ):
        bind(SumObjective(terms | {"c": MLMKDObjective()}), STUDENT, TEACHER)


@pytest.mark.parametrize(
    "terms, weights, message",
    [
        (
            {"mlm": MLMObjective()},
            {"mlm_kd": 1.0},
            r"objective\.weights\.mlm_kd: no such term\. Did you mean 'mlm'\?",
        ),
        ({"none": NoObjective()}, {}, r"objective\.terms\.none: it trains nothing"),
        (
            {"a": {"heads": 3}},
            {},
            r"objective\.terms\.a has no _target_; write \+objective@objective\.terms\.a=",
        ),
        ({"a": 3}, {}, r"objective\.terms\.a is not an objective \(got 3\)"),
        (
            {"a": RELATIONS | {"haeds": 1}},
            {},
            r"objective\.terms\.a\.haeds: no such setting\. Did you mean 'heads'",
        ),
        ({"a": RELATIONS | {"heads": "x"}}, {}, r"objective\.terms\.a\.heads='x'"),
        ({"a": {"_target_": "os.system"}}, {}, "os.system is not part of the lab"),
        ({"a": {"_target_": "minilm_lab.training.settings.Optim"}}, {}, r"terms\.a is not an objective"),
        ({"a.b": MLMObjective()}, {}, r"objective\.terms\.a\.b: name a term by a word"),
        ({"keys": MLMObjective()}, {}, r"objective\.terms\.keys: name a term by a word"),
    ],
)
def test_impossible_sums(terms: dict[str, Any], weights: dict[str, float], message: str) -> None:
    with pytest.raises(LabError, match=message):
        SumObjective(terms, weights)


def test_refusals_for_a_pair_of_models() -> None:
    with pytest.raises(LabError, match=r"objective=sum has no terms; .*objective=\[minilmv2,mlm_kd\]"):
        SumObjective().bind(STUDENT, TEACHER, 4)
    with pytest.raises(LabError, match=r"objective\.terms\.a: objective\.heads=7 must divide"):
        SumObjective({"a": RelationObjective(heads=7)}).bind(STUDENT, TEACHER, 4)
