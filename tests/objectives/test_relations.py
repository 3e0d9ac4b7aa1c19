"""The relation objective against loops over samples, heads and rows, its layers, its true scores, its refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import ModernBertConfig

from minilm_lab.errors import LabError
from minilm_lab.models.taps import Needs, Projections, Seen
from minilm_lab.objectives.base import Views
from minilm_lab.objectives.none import NoObjective
from minilm_lab.objectives.relations import PAIRS, RelationObjective
from minilm_lab.relations import relation_kl

from .helpers import MASK, bert, draw, gpt2, loop_relation, loop_scores, mpnet, views_of

MINILM = RelationObjective(["qk", "vv"], None)
STUDENT, TEACHER = bert(12, layers=2), bert(24, layers=4)


def sides(views: Views, pair: str, student: int, teacher: int) -> list[tuple[Tensor, Tensor]]:
    """(left, right) of the student and of the teacher."""
    places = ["qkv".index(letter) for letter in pair]
    seen = (views.student.projections[student], views.teacher.projections[teacher])
    return [(x[places[0]], x[places[1]]) for x in seen]


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
@pytest.mark.parametrize("backend", ["reference", "blockwise"])
@pytest.mark.parametrize(
    "relations, weights",
    [(["qq", "kk", "vv"], None), (["qk", "vv"], [1.0, 1.0]), (["vk", "kv", "qv"], [0.5, 2.0, 0.0])],
    ids=str,
)
def test_losses(relations: list[str], weights: list[float] | None, backend: str, mask: Tensor | None) -> None:
    objective = RelationObjective(relations, 3, weights).resolve(STUDENT, TEACHER, 3)
    views = views_of(objective, STUDENT, TEACHER, mask, backend=backend)
    found = objective.losses(views)
    assert list(found) == [f"loss_{pair}" for pair in relations]
    for pair, weight in zip(relations, weights or [1.0] * 3, strict=False):
        student, teacher = sides(views, pair, 2, 3)
        one = relation_kl(student, teacher, heads=3, mask=mask, backend=backend)
        loss = found[f"loss_{pair}"]
        assert loss.shape == () and torch.equal(loss, weight * one)
        assert float(loss) == pytest.approx(weight * loop_relation(student, teacher, 3, mask), rel=1e-9)


def test_a_student_that_is_the_teacher_loses_nothing() -> None:
    objective = RelationObjective(list(PAIRS), 4).resolve(TEACHER, TEACHER, 4)
    for value in objective.losses(views_of(objective, TEACHER, TEACHER, MASK, same=True)).values():
        assert float(value) == pytest.approx(0, abs=1e-12)


def test_gradient_reaches_the_student_with_its_weight() -> None:
    gradients = []
    for weight in (1.0, 3.0):
        objective = RelationObjective(["vv"], 3, [weight]).resolve(STUDENT, TEACHER, 4)
        views = views_of(objective, STUDENT, TEACHER, backend="blockwise")
        student = Projections(*(x.requires_grad_() for x in views.student.projections[2]))
        views.student.projections[2] = student
        sum(objective.losses(views).values()).backward()
        assert student.query.grad is None
        gradients.append(student.value.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[1], 3 * gradients[0])


@pytest.mark.parametrize(
    "settings, pairs",
    [
        ({}, [(2, 4)]),
        ({"map": "uniform"}, [(1, 2), (2, 4)]),
        ({"map": "top"}, [(1, 3), (2, 4)]),
        ({"pairs": [[2, 1], [2, 2], [2, 4], [1, 2]]}, [(2, 1), (2, 2), (2, 4), (1, 2)]),
    ],
    ids=str,
)
def test_a_term_is_the_mean_over_the_pairs_of_layers(
    settings: dict[str, Any], pairs: list[tuple[int, int]]
) -> None:
    objective = RelationObjective(["qk", "vv"], 3, [1.0, 0.5], **settings).resolve(STUDENT, TEACHER, 4)
    assert objective.layers() == pairs
    layers = (frozenset(s for s, _ in pairs), frozenset(t for _, t in pairs))
    assert objective.needs() == tuple(Needs(projections=x) for x in layers)
    views = views_of(objective, STUDENT, TEACHER, MASK)
    found = objective.losses(views)
    for pair, weight in (("qk", 1.0), ("vv", 0.5)):
        each = [loop_relation(*sides(views, pair, s, t), 3, MASK) for s, t in pairs]
        assert float(found[f"loss_{pair}"]) == pytest.approx(weight * sum(each) / len(each), rel=1e-9)


@pytest.mark.parametrize("student", [mpnet(12, layers=2), bert(12, layers=2)], ids=["mpnet", "bert"])
def test_attention_distributions_of_mpnet_are_of_its_true_scores(student: Any) -> None:
    """Its relative bias is no part of QKᵀ/√d; a student of another family shows its scores too."""
    teacher = mpnet()
    objective = RelationObjective(["vv", "qk"], None, [1.0, 2.0], map="uniform")
    objective.check(student, teacher, 4)
    objective = objective.resolve(student, teacher, 4)
    one, two = frozenset({1, 2}), frozenset({2, 4})
    assert objective.needs() == (Needs(one, scores=one), Needs(two, scores=two))
    views = views_of(objective, student, teacher, MASK)
    found = objective.losses(views)
    assert list(found) == ["loss_vv", "loss_qk"]
    scores = [
        loop_scores(views.student.scores[s], views.teacher.scores[t], MASK) for s, t in ((1, 2), (2, 4))
    ]
    assert float(found["loss_qk"]) == pytest.approx(sum(scores), rel=1e-9)  # weight 2, mean of 2
    values = [loop_relation(*sides(views, "vv", s, t), 3, MASK) for s, t in ((1, 2), (2, 4))]
    assert float(found["loss_vv"]) == pytest.approx(sum(values) / 2, rel=1e-9)


def test_true_scores_are_read_only_where_attention_distributions_are_meant() -> None:
    alone = RelationObjective(["qk"], None).resolve(mpnet(), mpnet(), 4)
    assert alone.needs() == (Needs(scores=frozenset({4})),) * 2
    for objective in (RelationObjective(["qk"], 3), RelationObjective(["vv"], None)):
        assert objective.resolve(mpnet(), mpnet(), 4).needs()[1] == Needs(frozenset({4}))
    assert RelationObjective(["qk"], None).resolve(STUDENT, TEACHER, 4).needs()[1] == Needs(frozenset({4}))
    # What is computed differs from the plain relation, so the identity does.
    assert alone.identity() != RelationObjective(["qk"], 3).resolve(mpnet(), mpnet(), 4).identity()


def test_a_causal_model_relates_tokens_to_earlier_ones() -> None:
    student, teacher = gpt2(12, layers=2), gpt2()
    objective = RelationObjective(["vv", "qk"], None).resolve(student, teacher, 4)
    views = views_of(objective, student, teacher, MASK, causal=True)
    found = objective.losses(views)
    expected = loop_relation(*sides(views, "vv", 2, 4), 3, MASK, causal=True)
    assert float(found["loss_vv"]) == pytest.approx(expected, rel=1e-9)
    expected = loop_scores(views.student.scores[2], views.teacher.scores[4], MASK)
    assert float(found["loss_qk"]) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(LabError, match=r"'bert' student cannot learn .* 'gpt2' teacher.*sees later tokens"):
        objective.check(bert(12, layers=2), teacher, 4)


def test_a_student_layer_that_sees_less_far_cannot_match_attention() -> None:
    """ModernBERT: layers 1, 4, 7 … see all tokens, the others those in a window."""

    def modernbert(layers: int) -> ModernBertConfig:
        return ModernBertConfig(hidden_size=24, num_attention_heads=3, num_hidden_layers=layers)

    teacher = modernbert(7)
    MINILM.check(modernbert(4), teacher, 7)  # both see all
    MINILM.check(modernbert(3), teacher, 6)  # both have the window
    MINILM.check(modernbert(4), teacher, 6)  # the student sees more, and can learn not to look
    with pytest.raises(LabError, match=r"student layer 3 sees tokens less than 64 away, teacher layer 7 all"):
        MINILM.check(modernbert(3), teacher, 7)
    RelationObjective(["qk", "vv"], 3).check(modernbert(3), teacher, 7)  # a relation, not the attention


def test_losses_are_float32_under_autocast() -> None:
    objective = MINILM.resolve(mpnet(), mpnet(), 4)
    views = views_of(objective, mpnet(), mpnet(), dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert {x.dtype for x in objective.losses(views).values()} == {torch.float32}


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
        ({"map": "uniforn"}, r"objective\.map=uniforn: no such map\. Did you mean 'uniform'"),
        ({"pairs": []}, r"objective\.pairs=\[\] gives no layer"),
        ({"pairs": [[1, 0]]}, r"objective\.pairs has \[1, 0\]: layers are counted from 1"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        RelationObjective(**settings)


@pytest.mark.parametrize("heads", [1, 2, 24, 48, 64, 192, 384])
def test_heads_that_divide_both_widths(heads: int) -> None:
    RelationObjective(heads=heads).check(bert(384, 12), bert(768, 12), 4)


def test_heads_that_do_not_divide_list_those_that_do() -> None:
    with pytest.raises(LabError) as caught:
        RelationObjective(heads=36).check(bert(384, 12), bert(768, 12), 4)
    message = str(caught.value)
    assert "objective.heads=36" in message and "teacher (768)" in message and "student (384)" in message
    listed = [int(n) for n in message.split("[")[1].rstrip("]").split(",")]
    assert listed == [h for h in range(1, 1000) if 384 % h == 0 and 768 % h == 0]


@pytest.mark.parametrize("student, teacher", [(384, 768), (768, 384)])
def test_heads_must_divide_both(student: int, teacher: int) -> None:
    RelationObjective(heads=256).check(bert(768, 12), bert(768, 12), 4)
    with pytest.raises(LabError, match=r"objective\.heads=256 must divide"):
        RelationObjective(heads=256).check(bert(student, 12), bert(teacher, 12), 4)


def test_minilm_needs_equal_attention_heads() -> None:
    MINILM.check(bert(384, 12), bert(768, 12), 4)
    with pytest.raises(LabError, match=r"student has 6 and the teacher 12; set student\.heads=12, or give"):
        MINILM.check(bert(384, 6), bert(768, 12), 4)
    RelationObjective(["qk", "vv"], 12).check(bert(384, 6), bert(768, 12), 4)


def test_layers_that_do_not_fit() -> None:
    with pytest.raises(LabError, match=r"objective\.map=uniform .* 4 layers .* only 3"):
        RelationObjective(heads=3, map="uniform").check(bert(layers=4), bert(layers=6), 3)
    with pytest.raises(LabError, match=r"objective\.pairs has \[5, 1\]: student layer 5 is outside 1\.\.4"):
        RelationObjective(heads=3, pairs=[[5, 1]]).check(bert(layers=4), bert(layers=6), 3)


def test_resolve_fills_in_heads_and_pairs_and_the_usual_identity_is_that_of_old_runs() -> None:
    student, teacher = bert(384, 12, layers=6), bert(768, 12, layers=12)
    resolved = MINILM.resolve(student, teacher, 11)
    assert resolved == RelationObjective(["qk", "vv"], 12, pairs=[[6, 11]])
    usual = {"kind": "RelationObjective", "relations": ["qk", "vv"], "heads": 12, "weights": None}
    assert resolved.identity() == usual and list(resolved.identity()) == list(usual)
    # However the pair of last layers is said, and however often it is resolved.
    same = RelationObjective(["qk", "vv"], None, pairs=[[6, 11]]).resolve(student, teacher, 11)
    assert same.identity() == usual == resolved.resolve(student, teacher, 11).identity()
    assert same.label() == resolved.label() == "qk.vv-12"
    shallow = RelationObjective(["qk", "vv"], None, map="uniform").resolve(
        bert(384, 12, layers=1), teacher, 11
    )
    assert shallow.identity() == usual
    assert MINILM.heads is None and MINILM.pairs is None


def test_other_layers_are_told_by_their_pairs() -> None:
    by_map = RelationObjective(heads=3, map="uniform").resolve(STUDENT, TEACHER, 4)
    by_hand = RelationObjective(heads=3, pairs=[[1, 2], [2, 4]]).resolve(STUDENT, TEACHER, 4)
    assert by_map.identity() == by_hand.identity()
    assert by_map.identity() == {
        "kind": "RelationObjective",
        "relations": ["qq", "kk", "vv"],
        "heads": 3,
        "weights": None,
        "pairs": [[1, 2], [2, 4]],
    }


def test_labels() -> None:
    assert RelationObjective().label() == "qq.kk.vv-48"
    assert MINILM.resolve(STUDENT, TEACHER, 4).label() == "qk.vv-3"
    assert RelationObjective(heads=3, map="top").resolve(STUDENT, TEACHER, 4).label() == "qq.kk.vv-3-top"
    assert RelationObjective(heads=3, pairs=[[2, 3], [2, 4]]).label() == "qq.kk.vv-3-2to3.2to4"
    assert RelationObjective(heads=3, pairs=[[1, n] for n in (1, 2, 3, 4)]).label() == "qq.kk.vv-3-4pairs"
    assert NoObjective().label() == "none"


def test_no_objective_trains_nothing_and_accepts_every_pair() -> None:
    none = NoObjective()
    assert not none.trains and RelationObjective().trains
    none.check(bert(6, 3), mpnet(), 1)
    assert none.resolve(bert(), bert(), 4) is none and none.identity() == {"kind": "NoObjective"}
    assert none.needs() == (Needs(), Needs()) and none.masked_share == 0
    with pytest.raises(NotImplementedError):
        none.losses(Views(Seen(), draw(Needs(), bert(), 0)))
