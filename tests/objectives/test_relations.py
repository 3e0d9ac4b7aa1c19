"""The relation objective against relation_kl pair by pair, and its refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, MPNetConfig, PretrainedConfig

from minilm_lab.errors import LabError
from minilm_lab.models.stopping import Projections
from minilm_lab.objectives.none import NoObjective
from minilm_lab.objectives.relations import PAIRS, RelationObjective
from minilm_lab.relations import relation_kl

MINILM = RelationObjective(["qk", "vv"], None)


def bert(hidden: int = 768, heads: int = 12) -> PretrainedConfig:
    return BertConfig(hidden_size=hidden, num_attention_heads=heads)


def projections(width: int, seed: int) -> Projections:
    generator = torch.Generator().manual_seed(seed)
    return Projections(
        *(torch.randn(2, 6, width, generator=generator, dtype=torch.float64) for _ in range(3))
    )


def mask_of(padded: bool) -> Tensor | None:
    if not padded:
        return None
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[0, 4:], mask[1, :1] = False, False
    return mask


def by_hand(student: Projections, teacher: Projections, pair: str, heads: int, mask: Tensor | None) -> float:
    """Eq. 6 and 9 of MiniLM with loops: no code of the lab."""
    left, right = ("qkv".index(letter) for letter in pair)
    per_sequence = []
    for row in range(len(student.query)):
        real = [i for i in range(student.query.shape[1]) if mask is None or bool(mask[row, i])]
        total = 0.0
        for head in range(heads):
            logs = []
            for side in (teacher, student):
                d = side.query.shape[-1] // heads
                columns = slice(head * d, (head + 1) * d)
                a, b = side[left][row][real][:, columns], side[right][row][real][:, columns]
                logs.append((a @ b.T / math.sqrt(d)).log_softmax(-1))
            total += float((logs[0].exp() * (logs[0] - logs[1])).sum())
        per_sequence.append(total / heads / len(real))
    return sum(per_sequence) / len(per_sequence)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("backend", ["reference", "blockwise"])
@pytest.mark.parametrize(
    "relations, weights",
    [(["qq", "kk", "vv"], None), (["qk", "vv"], [1.0, 1.0]), (["vk", "kv", "qv"], [0.5, 2.0, 0.0])],
    ids=str,
)
def test_losses(relations: list[str], weights: list[float] | None, backend: str, padded: bool) -> None:
    student, teacher, mask = projections(12, 1), projections(24, 2), mask_of(padded)
    found = RelationObjective(relations, 3, weights).losses(student, teacher, mask, backend)
    assert list(found) == [f"loss_{pair}" for pair in relations]
    for pair, weight in zip(relations, weights or [1.0] * 3, strict=False):
        sides = [tuple(side["qkv".index(letter)] for letter in pair) for side in (student, teacher)]
        one = relation_kl(*sides, heads=3, mask=mask, backend=backend)
        assert found[f"loss_{pair}"].shape == ()
        torch.testing.assert_close(found[f"loss_{pair}"], weight * one, rtol=1e-12, atol=0)
        assert float(found[f"loss_{pair}"]) == pytest.approx(
            weight * by_hand(student, teacher, pair, 3, mask), rel=1e-9
        )


def test_a_student_that_is_the_teacher_loses_nothing() -> None:
    same = projections(24, 1)
    for value in RelationObjective(list(PAIRS), 4).losses(same, same, None, "reference").values():
        assert float(value) == pytest.approx(0, abs=1e-12)


def test_gradient_reaches_the_student_with_its_weight() -> None:
    teacher = projections(24, 2)
    gradients = []
    for weight in (1.0, 3.0):
        student = Projections(*(x.requires_grad_() for x in projections(12, 1)))
        objective = RelationObjective(["vv"], 3, [weight])
        sum(objective.losses(student, teacher, None, "blockwise").values()).backward()
        assert student.query.grad is None
        gradients.append(student.value.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[1], 3 * gradients[0])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"relations": []}, r"objective\.relations=\[\]: give at least one of qq, qk"),
        ({"relations": ["qq", "kq", "vq", "Vv"]}, r"has 'Vv'\. Did you mean 'vv'\? Allowed are qq,"),
        ({"relations": ["qz"]}, r"has 'qz'.*Allowed are qq, qk, qv, kq"),
        ({"relations": ["qq", "qq"]}, r"names a pair twice; use objective\.weights"),
        (
            {"weights": [1.0]},
            r"objective\.weights=\[1\.0\] must have one weight for each of \['qq', 'kk', 'vv'\]",
        ),
        ({"heads": 0}, r"objective\.heads=0 must be at least 1"),
        ({"heads": -12}, r"objective\.heads=-12 must be at least 1"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        RelationObjective(**settings)


@pytest.mark.parametrize("heads", [1, 2, 24, 48, 64, 192, 384])
def test_heads_that_divide_both_widths(heads: int) -> None:
    RelationObjective(heads=heads).check(bert(384), bert(768))


def test_heads_that_do_not_divide_list_those_that_do() -> None:
    with pytest.raises(LabError) as caught:
        RelationObjective(heads=36).check(bert(384), bert(768))
    message = str(caught.value)
    assert "objective.heads=36" in message and "teacher (768)" in message and "student (384)" in message
    listed = [int(n) for n in message.split("[")[1].rstrip("]").split(",")]
    assert listed == [h for h in range(1, 1000) if 384 % h == 0 and 768 % h == 0]


@pytest.mark.parametrize("student, teacher", [(384, 768), (768, 384)])
def test_heads_must_divide_both(student: int, teacher: int) -> None:
    RelationObjective(heads=256).check(bert(768), bert(768))
    with pytest.raises(LabError, match=r"objective\.heads=256 must divide"):
        RelationObjective(heads=256).check(bert(student), bert(teacher))


def test_minilm_needs_equal_attention_heads() -> None:
    MINILM.check(bert(384, 12), bert(768, 12))
    with pytest.raises(LabError, match=r"student has 6 and the teacher 12; set student\.heads=12, or give"):
        MINILM.check(bert(384, 6), bert(768, 12))
    RelationObjective(["qk", "vv"], 12).check(bert(384, 6), bert(768, 12))


def test_minilm_refuses_scores_with_a_position_term() -> None:
    mpnet = MPNetConfig()
    with pytest.raises(LabError, match=r"objective=minilm .*'mpnet' teacher.*use objective=minilmv2"):
        MINILM.check(mpnet, mpnet)
    RelationObjective().check(mpnet, mpnet)
    RelationObjective(["qk", "vv"], 12).check(mpnet, mpnet)  # a relation, not the attention distribution


def test_resolve_fills_in_the_heads_and_is_the_identity() -> None:
    resolved = MINILM.resolve(bert(768, 12))
    assert resolved == RelationObjective(["qk", "vv"], 12)
    assert resolved.identity() == {
        "kind": "RelationObjective",
        "relations": ["qk", "vv"],
        "heads": 12,
        "weights": None,
    }
    assert MINILM.heads is None
    assert RelationObjective(heads=48).resolve(bert()) == RelationObjective(heads=48)
    assert RelationObjective(weights=[1.0, 2.0, 3.0]).resolve(bert()).weights == [1.0, 2.0, 3.0]


def test_labels() -> None:
    assert RelationObjective().label() == "qq.kk.vv-48"
    assert MINILM.resolve(bert()).label() == "qk.vv-12"
    assert NoObjective().label() == "none"


def test_no_objective_trains_nothing_and_accepts_every_pair() -> None:
    none = NoObjective()
    assert not none.trains and RelationObjective().trains
    none.check(bert(6, 3), MPNetConfig())
    assert none.resolve(bert()) is none and none.identity() == {"kind": "NoObjective"}
    with pytest.raises(NotImplementedError):
        none.losses(projections(12, 1), projections(12, 2), None, "reference")
