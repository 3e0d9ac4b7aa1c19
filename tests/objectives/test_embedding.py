"""The distance of sentence embeddings against a loop, its lift, its gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from minilm_lab.errors import LabError
from minilm_lab.models.taps import Needs
from minilm_lab.objectives.embedding import EmbeddingObjective

from .helpers import BATCH, MASK, bert, bind, leaves, mean, real_tokens, views_of

STUDENT, TEACHER = bert(12, layers=2), bert(24, layers=4)


def loop(
    student: Tensor, teacher: Tensor, matrix: Tensor | None, mask: Tensor | None, distance: str, pooling: str
) -> float:
    distances = []
    for row in range(BATCH):
        tokens = real_tokens(mask, row)
        if not tokens:
            distances.append(0.0)
            continue
        chosen = tokens if pooling == "mean" else tokens[:1]
        ours, theirs = (
            [mean([float(states[row, token, k]) for token in chosen]) for k in range(states.shape[2])]
            for states in (student, teacher)
        )
        if matrix is not None:
            ours = [sum(float(w) * x for w, x in zip(line, ours, strict=True)) for line in matrix]
        if distance == "mse":
            distances.append(mean([(a - b) ** 2 for a, b in zip(ours, theirs, strict=True)]))
        else:
            norms = (math.sqrt(sum(x * x for x in side)) for side in (ours, theirs))
            distances.append(1 - sum(a * b for a, b in zip(ours, theirs, strict=True)) / math.prod(norms))
    return mean(distances)


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("distance", ["cosine", "mse"])
@pytest.mark.parametrize("student", [STUDENT, bert(24, layers=2)], ids=["narrow", "wide"])
def test_the_loss(student: object, distance: str, pooling: str, mask: Tensor | None) -> None:
    bound = bind(EmbeddingObjective(distance, pooling), student, TEACHER, 3)  # type: ignore[arg-type]
    assert bound.reads == (Needs(hidden=frozenset({2})), Needs(hidden=frozenset({4}))), (
        "the last layer, not the 3rd"
    )
    views = views_of(bound, student, TEACHER, mask)  # type: ignore[arg-type]
    matrix = bound.lift.weight.detach() if list(bound.parameters()) else None
    assert (matrix is None) == (student is not STUDENT)
    expected = loop(views.student.hidden[2], views.teacher.hidden[4], matrix, mask, distance, pooling)
    assert float(bound(views)["loss_embedding"].detach()) == pytest.approx(expected, rel=1e-9)


def test_the_gradient_by_finite_differences() -> None:
    bound = bind(EmbeddingObjective(), STUDENT, TEACHER)
    views = views_of(bound, STUDENT, TEACHER, MASK)
    ours = [*leaves(views.student), *bound.parameters()]
    assert torch.autograd.gradcheck(lambda *_: bound(views)["loss_embedding"], ours, nondet_tol=0)
    bound(views)["loss_embedding"].backward()
    assert (views.student.hidden[2].grad[~MASK] == 0).all()


def test_a_student_that_is_the_teacher_loses_nothing() -> None:
    bound = bind(EmbeddingObjective(), TEACHER, TEACHER)
    assert float(
        bound(views_of(bound, TEACHER, TEACHER, MASK, same=True))["loss_embedding"]
    ) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("settings", [{"distance": "euclid"}, {"pooling": "median"}])
def test_refusals(settings: dict[str, str]) -> None:
    with pytest.raises(LabError, match="allowed are"):
        EmbeddingObjective(**settings)
