"""MLM, MLM-KD and DistilBERT against loops, with nothing masked, and their refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from minilm_lab.errors import LabError
from minilm_lab.models.taps import Needs
from minilm_lab.objectives.base import Objective
from minilm_lab.objectives.distilbert import DistilBERTObjective
from minilm_lab.objectives.mlm import MLMObjective
from minilm_lab.objectives.mlm_kd import MLMKDObjective

from .helpers import (
    LABELS,
    MASK,
    VOCABULARY,
    bert,
    bind,
    gpt2,
    leaves,
    loop_cosine,
    loop_mlm,
    loop_soft,
    views_of,
)

STUDENT, TEACHER = bert(24, layers=2), bert(24, layers=4)
LOGITS = Needs(logits=True)


def test_mlm_is_cross_entropy_and_reads_no_teacher() -> None:
    bound = bind(MLMObjective(), STUDENT, TEACHER)
    assert bound.reads == (LOGITS, Needs()) and bound.masked_share == 0.15
    views = views_of(bound, STUDENT, TEACHER, MASK)
    (loss,) = bound(views).values()
    assert views.student.logits is not None
    assert float(loss) == pytest.approx(loop_mlm(views.student.logits, LABELS), rel=1e-9)
    torch.testing.assert_close(loss, F.cross_entropy(views.student.logits, LABELS))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
def test_mlm_kd(temperature: float) -> None:
    bound = bind(MLMKDObjective(temperature, soft_weight=3.0, hard_weight=0.5), STUDENT, TEACHER)
    assert bound.reads == (LOGITS, LOGITS)
    views = views_of(bound, STUDENT, TEACHER)
    ours, theirs = views.student.logits, views.teacher.logits
    assert ours is not None and theirs is not None
    found = {name: float(loss) for name, loss in bound(views).items()}
    assert found == pytest.approx(
        {"loss_soft": 3 * loop_soft(ours, theirs, temperature), "loss_mlm": 0.5 * loop_mlm(ours, LABELS)},
        rel=1e-9,
    )


def test_a_high_temperature_matches_logits() -> None:
    """Hinton et al., eq. 4: T² times the gradient tends to (z_i − v_i) / N for logits of mean 0."""
    bound = bind(MLMKDObjective(temperature=1e4), STUDENT, TEACHER)
    views = views_of(bound, STUDENT, TEACHER)
    ours, theirs = views.student.logits, views.teacher.logits
    assert ours is not None and theirs is not None
    for logits in (ours, theirs):
        logits -= logits.mean(dim=1, keepdim=True)
    ours.requires_grad_()
    (gradient,) = torch.autograd.grad(bound(views)["loss_soft"], ours)
    expected = (ours - theirs) / VOCABULARY / len(LABELS)
    torch.testing.assert_close(gradient, expected.detach(), rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
def test_distilbert(mask: Tensor | None) -> None:
    bound = bind(DistilBERTObjective(), STUDENT, TEACHER, 3)
    assert bound.reads == (
        Needs(logits=True, hidden=frozenset({2})),
        Needs(logits=True, hidden=frozenset({3})),
    )
    views = views_of(bound, STUDENT, TEACHER, mask)
    ours, theirs = views.student.logits, views.teacher.logits
    assert ours is not None and theirs is not None
    found = {name: float(loss) for name, loss in bound(views).items()}
    expected = {
        "loss_soft": 5 * loop_soft(ours, theirs, 2.0),
        "loss_mlm": 2 * loop_mlm(ours, LABELS),
        "loss_cosine": loop_cosine(views.student.hidden[2], views.teacher.hidden[3], mask),
    }
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_cosine_is_that_of_torch_and_padding_may_hold_anything() -> None:
    bound = bind(DistilBERTObjective(), STUDENT, TEACHER, 4)
    views = views_of(bound, STUDENT, TEACHER, MASK)
    ours, theirs = views.student.hidden[2], views.teacher.hidden[4]
    expected = F.cosine_embedding_loss(ours[MASK], theirs[MASK], torch.ones(int(MASK.sum())))
    torch.testing.assert_close(bound(views)["loss_cosine"], expected)
    dirty = ours.masked_fill(~MASK[:, :, None], torch.nan).requires_grad_()
    views.student.hidden[2] = dirty
    loss = bound(views)["loss_cosine"]
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, dirty)
    assert (gradient[~MASK] == 0).all() and torch.isfinite(gradient).all() and gradient.abs().max() > 0


@pytest.mark.parametrize(
    "objective", [MLMObjective(), MLMKDObjective(hard_weight=1.0), DistilBERTObjective()], ids=str
)
def test_nothing_masked_costs_nothing_and_backward_runs(objective: Objective) -> None:
    bound = bind(objective, STUDENT, TEACHER, 4)
    views = views_of(bound, STUDENT, TEACHER, MASK, positions=0)
    views.labels = LABELS[:0]
    (logits,) = [x for x in leaves(views.student) if x is views.student.logits]
    found = bound(views)
    assert all(float(loss.detach()) == 0 for name, loss in found.items() if name != "loss_cosine")
    torch.stack(list(found.values())).sum().backward()
    assert logits.grad is not None and logits.grad.shape == (0, VOCABULARY)


@pytest.mark.parametrize("objective", [MLMKDObjective(2.0), DistilBERTObjective(mlm_weight=0)], ids=str)
def test_a_student_that_is_the_teacher_loses_nothing(objective: Objective) -> None:
    bound = bind(objective, TEACHER, TEACHER, 4)
    for loss in bound(views_of(bound, TEACHER, TEACHER, MASK, same=True)).values():
        assert float(loss) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("objective", [MLMObjective(), MLMKDObjective(), DistilBERTObjective()], ids=str)
def test_losses_are_float32_under_autocast(objective: Objective) -> None:
    bound = bind(objective, STUDENT, TEACHER, 4)
    exact = bound(views_of(bound, STUDENT, TEACHER, MASK))
    views = views_of(bound, STUDENT, TEACHER, MASK, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = bound(views)
    for name, loss in found.items():
        assert loss.dtype == torch.float32
        assert float(loss) == pytest.approx(float(exact[name]), rel=0.05)


def test_a_term_of_weight_0_reads_nothing() -> None:
    hard = bind(MLMKDObjective(soft_weight=0, hard_weight=1), STUDENT, TEACHER)
    assert hard.reads == (LOGITS, Needs())
    assert list(hard(views_of(hard, STUDENT, TEACHER))) == ["loss_mlm"]
    soft = bind(MLMKDObjective(), STUDENT, TEACHER)
    assert list(soft(views_of(soft, STUDENT, TEACHER))) == ["loss_soft"]
    narrow = DistilBERTObjective(cosine_weight=0)
    assert bind(narrow, bert(12, layers=2), TEACHER, 4).reads == (LOGITS, LOGITS)
    cosine = bind(DistilBERTObjective(soft_weight=0, mlm_weight=0), STUDENT, TEACHER, 4)
    assert cosine.reads == (Needs(hidden=frozenset({2})), Needs(hidden=frozenset({4})))


@pytest.mark.parametrize(
    "kind, settings, message",
    [
        (MLMObjective, {"mask_probability": 0.0}, r"objective\.mask_probability=0\.0 is the share"),
        (MLMObjective, {"mask_probability": 1.0}, r"objective\.mask_probability=1\.0 is the share"),
        (MLMKDObjective, {"mask_probability": 15.0}, r"objective\.mask_probability=15\.0 .* such as 0\.15"),
        (MLMKDObjective, {"temperature": 0.0}, r"objective\.temperature=0\.0 must be more than 0"),
        (MLMKDObjective, {"soft_weight": 0.0}, "one of soft_weight, hard_weight must be more than 0"),
        (MLMKDObjective, {"hard_weight": -1.0}, r"objective\.hard_weight=-1\.0 must be 0 or more"),
        (DistilBERTObjective, {"temperature": -2.0}, r"objective\.temperature=-2\.0 must be more than 0"),
        (
            DistilBERTObjective,
            {"cosine_weight": float("nan")},
            r"objective\.cosine_weight=nan must be 0 or more",
        ),
        (DistilBERTObjective, {"mask_probability": -0.1}, r"objective\.mask_probability=-0\.1"),
    ],
)
def test_impossible_settings(kind: type[Objective], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        kind(**settings)


def test_models_that_do_not_fit() -> None:
    other = bert(24, vocab_size=12)
    for objective in (MLMKDObjective(), DistilBERTObjective()):
        objective.bind(STUDENT, TEACHER, 4)
        with pytest.raises(LabError, match="the student has 12 and the teacher 11: both need the teacher's"):
            objective.bind(other, TEACHER, 4)
    with pytest.raises(
        LabError,
        match=r"objective\.cosine_weight=1\.0 .* student has 12, the teacher 24; set student\.hidden_size=24",
    ):
        DistilBERTObjective().bind(bert(12), TEACHER, 4)


def test_models_that_predict_the_next_token_are_refused() -> None:
    for objective in (MLMObjective(), MLMKDObjective(), DistilBERTObjective()):
        with pytest.raises(LabError, match=r"a 'gpt2' model predicts the next token .*objective=minilmv2"):
            objective.bind(gpt2(layers=2), gpt2(), 4)


def test_identities_and_labels() -> None:
    assert bind(MLMObjective(0.2), STUDENT, TEACHER).identity() == {
        "kind": "MLMObjective",
        "mask_probability": 0.2,
    }
    distilbert = bind(DistilBERTObjective(), STUDENT, TEACHER, 4)
    assert distilbert.identity() == {
        "kind": "DistilBERTObjective",
        "temperature": 2.0,
        "soft_weight": 5.0,
        "mlm_weight": 2.0,
        "cosine_weight": 1.0,
        "mask_probability": 0.15,
    }
    labels = [bind(x, STUDENT, TEACHER).label() for x in (MLMObjective(), MLMKDObjective())]
    assert [*labels, distilbert.label()] == ["mlm", "mlm_kd", "distilbert"]
