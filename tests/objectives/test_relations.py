"""The relation objective against loops over samples, heads and rows, its layers, its true scores, its refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, ModernBertConfig

from minilm_lab.errors import LabError
from minilm_lab.models.taps import Needs, Projections, Seen
from minilm_lab.objectives.base import Views
from minilm_lab.objectives.none import NoObjective
from minilm_lab.objectives.relations import PAIRS, RelationObjective
from minilm_lab.objectives.sum import SumObjective
from minilm_lab.objectives.tinybert import TinyBERTObjective
from minilm_lab.objectives.value_mse import ValueMSEObjective
from minilm_lab.relations import relation_kl

from .helpers import MASK, bert, bind, draw, gpt2, loop_relation, loop_scores, mpnet, views_of

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
    bound = bind(RelationObjective(relations, 3, weights), STUDENT, TEACHER, 3)
    views = views_of(bound, STUDENT, TEACHER, mask, backend=backend)
    found = bound(views)
    assert list(found) == [f"loss_{pair}" for pair in relations]
    for pair, weight in zip(relations, weights or [1.0] * 3, strict=False):
        student, teacher = sides(views, pair, 2, 3)
        one = relation_kl(student, teacher, heads=3, mask=mask, backend=backend)
        loss = found[f"loss_{pair}"]
        assert loss.shape == () and torch.equal(loss, weight * one)
        assert float(loss) == pytest.approx(weight * loop_relation(student, teacher, 3, mask), rel=1e-9)


def test_a_student_that_is_the_teacher_loses_nothing() -> None:
    bound = bind(RelationObjective(list(PAIRS), 4), TEACHER, TEACHER, 4)
    for value in bound(views_of(bound, TEACHER, TEACHER, MASK, same=True)).values():
        assert float(value) == pytest.approx(0, abs=1e-12)


def test_gradient_reaches_the_student_with_its_weight() -> None:
    gradients = []
    for weight in (1.0, 3.0):
        bound = bind(RelationObjective(["vv"], 3, [weight]), STUDENT, TEACHER, 4)
        views = views_of(bound, STUDENT, TEACHER, backend="blockwise")
        student = Projections(*(x.requires_grad_() for x in views.student.projections[2]))
        views.student.projections[2] = student
        sum(bound(views).values()).backward()
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
    bound = bind(RelationObjective(["qk", "vv"], 3, [1.0, 0.5], **settings), STUDENT, TEACHER, 4)
    layers = (frozenset(s for s, _ in pairs), frozenset(t for _, t in pairs))
    assert bound.reads == tuple(Needs(projections=x) for x in layers)
    views = views_of(bound, STUDENT, TEACHER, MASK)
    found = bound(views)
    for pair, weight in (("qk", 1.0), ("vv", 0.5)):
        each = [loop_relation(*sides(views, pair, s, t), 3, MASK) for s, t in pairs]
        assert float(found[f"loss_{pair}"]) == pytest.approx(weight * sum(each) / len(each), rel=1e-9)


@pytest.mark.parametrize("student", [mpnet(12, layers=2), bert(12, layers=2)], ids=["mpnet", "bert"])
def test_attention_distributions_of_mpnet_are_of_its_true_scores(student: Any) -> None:
    """Its relative bias is no part of QKᵀ/√d; a student of another family shows its scores too."""
    teacher = mpnet()
    objective = RelationObjective(["vv", "qk"], None, [1.0, 2.0], map="uniform")
    bound = bind(objective, student, teacher, 4)
    one, two = frozenset({1, 2}), frozenset({2, 4})
    assert bound.reads == (Needs(one, scores=one), Needs(two, scores=two))
    views = views_of(bound, student, teacher, MASK)
    found = bound(views)
    assert list(found) == ["loss_vv", "loss_qk"]
    scores = [
        loop_scores(views.student.scores[s], views.teacher.scores[t], MASK) for s, t in ((1, 2), (2, 4))
    ]
    assert float(found["loss_qk"]) == pytest.approx(sum(scores), rel=1e-9)  # weight 2, mean of 2
    values = [loop_relation(*sides(views, "vv", s, t), 3, MASK) for s, t in ((1, 2), (2, 4))]
    assert float(found["loss_vv"]) == pytest.approx(sum(values) / 2, rel=1e-9)


def test_true_scores_are_read_only_where_attention_distributions_are_meant() -> None:
    alone = bind(RelationObjective(["qk"], None), mpnet(), mpnet(), 4)
    assert alone.reads == (Needs(scores=frozenset({4})),) * 2
    for objective in (RelationObjective(["qk"], 3), RelationObjective(["vv"], None)):
        assert bind(objective, mpnet(), mpnet(), 4).reads[1] == Needs(frozenset({4}))
    assert bind(RelationObjective(["qk"], None), STUDENT, TEACHER, 4).reads[1] == Needs(frozenset({4}))
    # What is computed differs from the plain relation, so the identity does.
    assert alone.identity() != bind(RelationObjective(["qk"], 3), mpnet(), mpnet(), 4).identity()


def test_a_causal_model_relates_tokens_to_earlier_ones() -> None:
    student, teacher = gpt2(12, layers=2), gpt2()
    bound = bind(RelationObjective(["vv", "qk"], None), student, teacher, 4)
    views = views_of(bound, student, teacher, MASK, causal=True)
    found = bound(views)
    expected = loop_relation(*sides(views, "vv", 2, 4), 3, MASK, causal=True)
    assert float(found["loss_vv"]) == pytest.approx(expected, rel=1e-9)
    expected = loop_scores(views.student.scores[2], views.teacher.scores[4], MASK)
    assert float(found["loss_qk"]) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(LabError, match=r"'bert' student cannot learn .* 'gpt2' teacher.*sees later tokens"):
        RelationObjective(["vv"], None).bind(bert(12, layers=2), teacher, 4)


def test_a_student_layer_that_sees_less_far_cannot_match_attention() -> None:
    """ModernBERT: layers 1, 4, 7 … see all tokens, the others those in a window."""

    def modernbert(layers: int) -> ModernBertConfig:
        return ModernBertConfig(hidden_size=24, num_attention_heads=3, num_hidden_layers=layers)

    teacher = modernbert(7)
    MINILM.bind(modernbert(4), teacher, 7)  # both see all
    MINILM.bind(modernbert(3), teacher, 6)  # both have the window
    MINILM.bind(modernbert(4), teacher, 6)  # the student sees more, and can learn not to look
    with pytest.raises(LabError, match=r"student layer 3 sees tokens less than 64 away, teacher layer 7 all"):
        MINILM.bind(modernbert(3), teacher, 7)
    RelationObjective(["qk", "vv"], 3).bind(modernbert(3), teacher, 7)  # a relation, not the attention


def test_losses_are_float32_under_autocast() -> None:
    bound = bind(MINILM, mpnet(), mpnet(), 4)
    views = views_of(bound, mpnet(), mpnet(), dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert {x.dtype for x in bound(views).values()} == {torch.float32}


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
    RelationObjective(heads=heads).bind(bert(384, 12), bert(768, 12), 4)


def test_heads_that_do_not_divide_list_those_that_do() -> None:
    with pytest.raises(LabError) as caught:
        RelationObjective(heads=36).bind(bert(384, 12), bert(768, 12), 4)
    message = str(caught.value)
    assert "objective.heads=36" in message and "teacher (768)" in message and "student (384)" in message
    listed = [int(n) for n in message.split("[")[1].rstrip("]").split(",")]
    assert listed == [h for h in range(1, 1000) if 384 % h == 0 and 768 % h == 0]


@pytest.mark.parametrize("student, teacher", [(384, 768), (768, 384)])
def test_heads_must_divide_both(student: int, teacher: int) -> None:
    RelationObjective(heads=256).bind(bert(768, 12), bert(768, 12), 4)
    with pytest.raises(LabError, match=r"objective\.heads=256 must divide"):
        RelationObjective(heads=256).bind(bert(student, 12), bert(teacher, 12), 4)


def test_minilm_needs_equal_attention_heads() -> None:
    MINILM.bind(bert(384, 12), bert(768, 12), 4)
    with pytest.raises(LabError, match=r"student has 6 and the teacher 12; set student\.heads=12, or give"):
        MINILM.bind(bert(384, 6), bert(768, 12), 4)
    RelationObjective(["qk", "vv"], 12).bind(bert(384, 6), bert(768, 12), 4)


def test_layers_that_do_not_fit() -> None:
    with pytest.raises(LabError, match=r"objective\.map=uniform .* 4 layers .* only 3"):
        RelationObjective(heads=3, map="uniform").bind(bert(layers=4), bert(layers=6), 3)
    with pytest.raises(LabError, match=r"objective\.pairs has \[5, 1\]: student layer 5 is outside 1\.\.4"):
        RelationObjective(heads=3, pairs=[[5, 1]]).bind(bert(layers=4), bert(layers=6), 3)


def test_binding_fills_in_heads_and_pairs_and_the_usual_identity_is_that_of_old_runs() -> None:
    student, teacher = bert(384, 12, layers=6), bert(768, 12, layers=12)
    bound = bind(MINILM, student, teacher, 11)
    usual = {"kind": "RelationObjective", "relations": ["qk", "vv"], "heads": 12, "weights": None}
    assert bound.identity() == usual and list(bound.identity()) == list(usual)
    # However the pair of last layers is said.
    same = bind(RelationObjective(["qk", "vv"], None, pairs=[[6, 11]]), student, teacher, 11)
    assert same.identity() == usual
    assert same.label() == bound.label() == "qk.vv-12"
    uniform = RelationObjective(["qk", "vv"], None, map="uniform")
    shallow = bind(uniform, bert(384, 12, layers=1), teacher, 11)
    assert shallow.identity() == usual
    assert MINILM.heads is None and MINILM.pairs is None


def test_other_layers_are_told_by_their_pairs() -> None:
    by_map = bind(RelationObjective(heads=3, map="uniform"), STUDENT, TEACHER, 4)
    by_hand = bind(RelationObjective(heads=3, pairs=[[1, 2], [2, 4]]), STUDENT, TEACHER, 4)
    assert by_map.identity() == by_hand.identity()
    assert by_map.identity() == {
        "kind": "RelationObjective",
        "relations": ["qq", "kk", "vv"],
        "heads": 3,
        "weights": None,
        "pairs": [[1, 2], [2, 4]],
    }


def test_labels() -> None:
    assert bind(RelationObjective(), bert(96), bert(96), 4).label() == "qq.kk.vv-48"
    assert bind(MINILM, STUDENT, TEACHER, 4).label() == "qk.vv-3"
    assert bind(RelationObjective(heads=3, map="top"), STUDENT, TEACHER, 4).label() == "qq.kk.vv-3-top"
    by_hand = RelationObjective(heads=3, pairs=[[2, 3], [2, 4]])
    assert bind(by_hand, STUDENT, TEACHER).label() == "qq.kk.vv-3-2to3.2to4"
    many = RelationObjective(heads=3, pairs=[[1, n] for n in (1, 2, 3, 4)])
    assert bind(many, STUDENT, TEACHER).label() == "qq.kk.vv-3-4pairs"
    assert bind(NoObjective(), STUDENT, TEACHER).label() == "none"


def test_no_objective_trains_nothing_and_accepts_every_pair() -> None:
    none = NoObjective()
    assert not none.trains and RelationObjective().trains
    bound = bind(none, bert(6, 3), mpnet(), 1, grouped="group")
    assert bound.identity() == {"kind": "NoObjective"}
    assert bound.reads == (Needs(), Needs()) and bound.masked_share == 0
    with pytest.raises(NotImplementedError):
        bound(Views(Seen(), draw(Needs(), bert(), 0)))


def test_groups_are_read_where_their_widths_are_equal() -> None:
    """Llama: two groups of keys and values at half the width of the queries."""
    student, teacher = (
        LlamaConfig(hidden_size=24, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=n)
        for n in (2, 4)
    )
    bind(RelationObjective(heads=6), student, teacher, 4, grouped="group")
    with pytest.raises(LabError, match=r"objective\.heads=24 must divide 12, the width of k with teacher"):
        bind(RelationObjective(heads=24), student, teacher, 4, grouped="group")
    with pytest.raises(LabError, match=r"has 'qk', which are 24 and 12 wide .* use teacher\.grouped=repeat"):
        bind(MINILM, student, teacher, 4, grouped="group")
    for objective in (TinyBERTObjective(), ValueMSEObjective(), SumObjective({"tiny": TinyBERTObjective()})):
        with pytest.raises(LabError, match=r"teacher\.grouped=group is for relations of Q, K and V"):
            bind(objective, student, teacher, 4, grouped="group")
