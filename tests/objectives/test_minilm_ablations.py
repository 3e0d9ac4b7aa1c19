"""Value-MSE and hidden-state relations against loops, their lift, their refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from minilm_lab.errors import LabError
from minilm_lab.models.taps import Needs
from minilm_lab.objectives.hidden_relation import HiddenRelationObjective
from minilm_lab.objectives.value_mse import ValueMSEObjective

from .helpers import MASK, bert, bind, gpt2, leaves, loop_mse, loop_relation, loop_scores, mpnet, views_of

STUDENT, TEACHER = bert(12, layers=2), bert(24, layers=4)
MASKS = pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])


@MASKS
def test_value_mse_with_a_lift(mask: Tensor | None) -> None:
    bound = bind(ValueMSEObjective(0.5, 2.0), STUDENT, TEACHER, 3)
    assert bound.reads == (Needs(frozenset({2})), Needs(frozenset({3})))
    views = views_of(bound, STUDENT, TEACHER, mask)
    assert {n: tuple(p.shape) for n, p in bound.named_parameters()} == {"lift.weight": (24, 12)}
    found = {name: loss.detach() for name, loss in bound(views).items()}
    assert list(found) == ["loss_qk", "loss_value"]
    ours, theirs = views.student.projections[2], views.teacher.projections[3]
    attention = loop_relation(ours[:2], theirs[:2], 3, mask)
    assert float(found["loss_qk"]) == pytest.approx(0.5 * attention, rel=1e-9)
    matrix = bound.lift.weight.detach()
    lifted = torch.stack([torch.stack([matrix @ token for token in row]) for row in ours.value])
    assert float(found["loss_value"]) == pytest.approx(2 * loop_mse(lifted, theirs.value, mask), rel=1e-9)


@MASKS
def test_value_mse_of_equal_widths_has_no_lift(mask: Tensor | None) -> None:
    student = bert(24, layers=2)
    bound = bind(ValueMSEObjective(), student, TEACHER, 4)
    views = views_of(bound, student, TEACHER, mask)
    assert not list(bound.parameters())
    expected = loop_mse(views.student.projections[2].value, views.teacher.projections[4].value, mask)
    assert float(bound(views)["loss_value"]) == pytest.approx(expected, rel=1e-9)


def test_the_gradient_of_value_mse_by_finite_differences() -> None:
    """Of the student's values and of the lift."""
    bound = bind(ValueMSEObjective(attention_weight=0.0), STUDENT, TEACHER, 4)
    views = views_of(bound, STUDENT, TEACHER, MASK)
    leaves(views.student)
    value, weight = views.student.projections[2].value, bound.lift.weight

    def loss(*_: Tensor) -> Tensor:
        return bound(views)["loss_value"]

    assert torch.autograd.gradcheck(loss, (value, weight))
    loss().backward()
    assert value.grad is not None and (value.grad[~MASK] == 0).all() and value.grad[MASK].abs().min() > 0
    assert weight.grad is not None and weight.grad.abs().min() > 0


def test_value_mse_of_mpnet_reads_true_scores_and_values() -> None:
    bound = bind(ValueMSEObjective(), mpnet(12, layers=2), mpnet(), 4)
    assert bound.reads == tuple(Needs(frozenset({n}), frozenset({n})) for n in (2, 4))
    views = views_of(bound, mpnet(12, layers=2), mpnet(), MASK)
    expected = loop_scores(views.student.scores[2], views.teacher.scores[4], MASK)
    assert float(bound(views)["loss_qk"]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("objective", [ValueMSEObjective(), HiddenRelationObjective()], ids=str)
@MASKS
def test_a_student_that_is_the_teacher_loses_nothing(
    objective: ValueMSEObjective | HiddenRelationObjective, mask: Tensor | None
) -> None:
    bound = bind(objective, TEACHER, TEACHER, 4)
    for value in bound(views_of(bound, TEACHER, TEACHER, mask, same=True)).values():
        assert float(value) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("backend", ["reference", "blockwise"])
@MASKS
def test_hidden_relations(mask: Tensor | None, backend: str) -> None:
    bound = bind(HiddenRelationObjective(4, map="uniform"), STUDENT, TEACHER, 4)
    assert bound.reads == (Needs(hidden=frozenset({1, 2})), Needs(hidden=frozenset({2, 4})))
    views = views_of(bound, STUDENT, TEACHER, mask, backend=backend)
    each = [
        loop_relation((views.student.hidden[s],) * 2, (views.teacher.hidden[t],) * 2, 4, mask)
        for s, t in ((1, 2), (2, 4))
    ]
    (name, loss), *others = bound(views).items()
    assert name == "loss_hh" and not others
    assert float(loss) == pytest.approx(sum(each) / 2, rel=1e-9)


def test_hidden_relations_of_a_causal_model() -> None:
    student, teacher = gpt2(12, layers=2), gpt2()
    bound = bind(HiddenRelationObjective(), student, teacher, 4)
    views = views_of(bound, student, teacher, MASK)
    sides = (views.student.hidden[2],) * 2, (views.teacher.hidden[4],) * 2
    expected = loop_relation(*sides, 3, MASK, causal=True)
    assert float(bound(views)["loss_hh"]) == pytest.approx(expected, rel=1e-9)


def test_refusals() -> None:
    with pytest.raises(LabError, match=r"objective\.heads=7 must divide .* \[1, 2, 3, 4, 6, 12\]"):
        HiddenRelationObjective(7).bind(STUDENT, TEACHER, 4)
    with pytest.raises(LabError, match=r"objective\.heads=0 must be at least 1"):
        HiddenRelationObjective(0)
    with pytest.raises(LabError, match=r"objective\.pairs has \[3, 1\]"):
        HiddenRelationObjective(pairs=[[3, 1]]).bind(STUDENT, TEACHER, 4)
    HiddenRelationObjective().bind(
        bert(12, 2, layers=2), TEACHER, 4
    )  # heads are a split, not the attention's
    with pytest.raises(LabError, match=r"student has 2 and the teacher 3; set student\.heads=3"):
        ValueMSEObjective().bind(bert(12, 2, layers=2), TEACHER, 4)
    with pytest.raises(LabError, match=r"objective\.value_weight=-1 must be 0 or more"):
        ValueMSEObjective(value_weight=-1)
    with pytest.raises(LabError, match="one of attention_weight, value_weight must be more than 0"):
        ValueMSEObjective(0, 0)


def test_identities_and_labels() -> None:
    value = bind(ValueMSEObjective(), STUDENT, TEACHER, 4)
    assert value.identity() == {"kind": "ValueMSEObjective", "attention_weight": 1.0, "value_weight": 1.0}
    hidden = bind(HiddenRelationObjective(map="top"), STUDENT, TEACHER, 4)
    told = {"kind": "HiddenRelationObjective", "heads": 3, "pairs": [[1, 3], [2, 4]]}
    assert hidden.identity() == told
    assert bind(HiddenRelationObjective(3, pairs=[[1, 3], [2, 4]]), STUDENT, TEACHER, 4).identity() == told
    assert (value.label(), hidden.label()) == ("value_mse", "hh-3-top")
    assert bind(HiddenRelationObjective(6), STUDENT, TEACHER, 4).label() == "hh-6"
