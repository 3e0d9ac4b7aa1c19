"""lm and lm_kd against losses over all logits; the student's head: tied, its own, or the teacher's frozen one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from models.helpers import drawn, tokenizer_of
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, LlamaModel

from minilm_lab.errors import LabError
from minilm_lab.models.student import Initialisation, Student
from minilm_lab.models.tapped import Tapped
from minilm_lab.models.taps import Needs, Seen
from minilm_lab.models.teacher import Teacher
from minilm_lab.objectives.base import Views
from minilm_lab.objectives.lm import LMObjective, next_places
from minilm_lab.objectives.lm_kd import LMKDObjective
from minilm_lab.training.pair import load_pair

from .helpers import bert, bind, gpt2

MASK = torch.tensor([[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 0, 0]]).bool()
NEXT = Needs(next_tokens=True)


def shape(**changes: Any) -> LlamaConfig:
    settings: dict[str, Any] = {
        "vocab_size": 100,
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "pad_token_id": 2,
        "eos_token_id": 2,
    }
    return LlamaConfig(**settings | changes)


def causal(seed: int, **changes: Any) -> LlamaForCausalLM:
    model = drawn(LlamaForCausalLM(shape(**changes)), seed).eval()
    assert isinstance(model, LlamaForCausalLM)
    return model


def views(mask: Tensor | None, of_teacher: bool) -> tuple[Views, Tensor, Tensor]:
    """What both models show, and the library's logits of both."""
    student, teacher = causal(1, num_hidden_layers=2), causal(2)
    ids = torch.randint(3, 100, (4, 6), generator=torch.Generator().manual_seed(3))
    seen = Tapped(student, NEXT)(ids, mask), Tapped(teacher, NEXT if of_teacher else Needs())(ids, mask)
    attended = None if mask is None else mask.long()
    logits = (model(input_ids=ids, attention_mask=attended).logits for model in (student, teacher))
    return (Views(*seen, mask, ids=ids), *logits)  # type: ignore[return-value]


def pairs(mask: Tensor | None) -> list[tuple[int, int]]:
    real = torch.ones(4, 6).bool() if mask is None else mask
    return [(b, i) for b in range(4) for i in range(5) if real[b, i] and real[b, i + 1]]


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
def test_lm_is_the_cross_entropy_of_real_next_tokens(mask: Tensor | None) -> None:
    loss = bind(LMObjective(), shape(), shape())
    assert loss.reads == (NEXT, Needs()) and loss.label() == "lm" and not loss.masked_share
    seen, ours, _ = views(mask, of_teacher=False)
    assert seen.ids is not None
    places = pairs(mask)
    expected = torch.stack([F.cross_entropy(ours[b, i], seen.ids[b, i + 1]) for b, i in places]).mean()
    torch.testing.assert_close(loss.float()(seen)["loss_lm"], expected)
    before, labels = next_places(seen.ids, mask)
    assert before.tolist() == [6 * b + i for b, i in places]
    assert labels.tolist() == [int(seen.ids[b, i + 1]) for b, i in places]


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
@pytest.mark.parametrize(("divergence", "hard"), [("forward_kl", 0.0), ("reverse_kl", 0.5), ("jsd", 0.5)])
def test_lm_kd(mask: Tensor | None, divergence: str, hard: float) -> None:
    objective = LMKDObjective(divergence, mix=0.3, temperature=2.0, soft_weight=0.7, hard_weight=hard)
    loss = bind(objective, shape(), shape()).float()
    assert loss.reads == (NEXT, NEXT) and ("mix" in loss.identity()) == (divergence == "jsd")
    seen, ours, theirs = views(mask, of_teacher=True)
    assert seen.ids is not None
    rows = tuple(zip(*pairs(mask), strict=True))
    p, q = (theirs[rows] / 2).softmax(-1), (ours[rows] / 2).softmax(-1)
    m = 0.3 * p + 0.7 * q

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return (a * (a / b).log()).sum(-1).mean()

    value = {"forward_kl": kl(p, q), "reverse_kl": kl(q, p), "jsd": 0.3 * kl(p, m) + 0.7 * kl(q, m)}[
        divergence
    ]
    found = loss(seen)
    torch.testing.assert_close(found["loss_soft"], 0.7 * 4 * value, rtol=1e-4, atol=1e-5)
    assert ("loss_lm" in found) == bool(hard)
    if hard:
        labels = torch.tensor([int(seen.ids[b, i + 1]) for b, i in pairs(mask)])
        torch.testing.assert_close(found["loss_lm"], hard * F.cross_entropy(ours[rows], labels))


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "padded"])
def test_lm_kd_of_the_likeliest(mask: Tensor | None) -> None:
    loss = bind(LMKDObjective(top_k=5), shape(), shape()).float()
    assert loss.reads == (NEXT, Needs(next_tokens=True, top=5)) and loss.identity()["top_k"] == 5
    assert "top_k" not in bind(LMKDObjective(), shape(), shape()).identity()  # as before there was one
    student, teacher = causal(1, num_hidden_layers=2), causal(2)
    ids = torch.randint(3, 100, (4, 6), generator=torch.Generator().manual_seed(3))
    seen = Tapped(student, loss.reads[0])(ids, mask), Tapped(teacher, loss.reads[1])(ids, mask)
    attended = None if mask is None else mask.long()
    p, q = (
        model(input_ids=ids, attention_mask=attended).logits.double().softmax(-1)
        for model in (teacher, student)
    )
    total = torch.zeros((), dtype=torch.float64)
    for b, i in pairs(mask):
        near = p[b, i].topk(5).indices
        buckets = [torch.cat([x[b, i][near], 1 - x[b, i][near].sum()[None]]) for x in (p, q)]
        total = total + (buckets[0] * (buckets[0] / buckets[1]).log()).sum()
    found = loss(Views(*seen, mask, ids=ids))["loss_soft"].double()
    torch.testing.assert_close(found, total / len(pairs(mask)), rtol=5e-3, atol=1e-4)
    kept = Views(seen[0], Seen(top=seen[1].top), mask, ids=ids)  # as it comes from disk
    torch.testing.assert_close(loss(kept)["loss_soft"].double(), found)


def test_refusals() -> None:
    for objective in (LMObjective(), LMKDObjective()):
        with pytest.raises(LabError, match="cannot learn to predict the next"):
            bind(objective, bert(), bert())
    with pytest.raises(LabError, match="vocabulary"):
        bind(LMKDObjective(), shape(), gpt2())
    with pytest.raises(LabError, match=r"objective.top_k=100 must be less than the teacher's vocabulary"):
        bind(LMKDObjective(top_k=100), shape(), shape())
    for bad in (
        {"divergence": "jds"},
        {"mix": 1.0},
        {"temperature": 0.0},
        {"soft_weight": 0.0},
        {"top_k": 0},
        {"top_k": 4, "temperature": 2.0},
    ):
        with pytest.raises(LabError, match="objective"):
            LMKDObjective(**bad)  # type: ignore[arg-type]


def pair(
    folder: Path,
    model: Any,
    reads: tuple[Needs, Needs] = (NEXT, NEXT),
    copied: bool = True,
    **settings: Any,
) -> Any:
    """(teacher, student) as a distillation loads them; the student with its head."""
    model.save_pretrained(folder)
    tokenizer_of("bert").save_pretrained(folder)
    teacher = Teacher("tiny", path=str(folder))
    init = Initialisation("uniform" if copied else "random", "teacher" if copied else "random")
    student = Student(
        **{"name": "s", "layers": 2, "hidden_size": 24, "ffn_size": 48, "init": init} | settings
    )
    *views, _ = load_pair(teacher, student, reads, teacher.tokenizer(folder), None, 5, folder)
    return views[0].model, views[1].model


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("keys", [None, "tied", "own", "teacher_frozen"])
def test_the_students_head(tmp_path: Path, tied: bool, keys: str | None) -> None:
    theirs = causal(2, tie_word_embeddings=tied)
    _, student = pair(tmp_path / "teacher", theirs, keys=keys)
    head, words = student.lm_head.weight, student.get_input_embeddings().weight
    assert (head is words) == (keys == "tied" or (keys is None and tied))
    assert torch.equal(words, theirs.get_input_embeddings().weight)
    if head is not words:
        assert torch.equal(head, theirs.lm_head.weight)
    assert head.requires_grad == (keys != "teacher_frozen")
    student.save_pretrained(tmp_path / "student")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "student").eval()
    ids = torch.arange(10, 20)[None]
    torch.testing.assert_close(again(input_ids=ids).logits, student.eval()(input_ids=ids).logits)
    assert isinstance(AutoModel.from_pretrained(tmp_path / "student"), LlamaModel)


def test_relations_keep_the_head_that_the_teacher_was_saved_with(tmp_path: Path) -> None:
    relations = Needs(projections=frozenset({2})), Needs(projections=frozenset({2}))
    _, student = pair(tmp_path / "lm", causal(2), relations)
    assert isinstance(student, LlamaForCausalLM)
    _, student = pair(tmp_path / "body", drawn(LlamaModel(shape()), 2), relations)
    assert isinstance(student, LlamaModel)
    _, student = pair(tmp_path / "asked", drawn(LlamaModel(shape()), 2), relations, keys="tied")
    assert isinstance(student, LlamaForCausalLM)
    _, student = pair(tmp_path / "lm_only", drawn(LlamaModel(shape()), 2), (NEXT, Needs()))
    assert isinstance(student, LlamaForCausalLM)
    with pytest.raises(LabError, match="lm_head"):
        pair(tmp_path / "none", drawn(LlamaModel(shape()), 2))


def test_a_random_student_shares_nothing_and_is_a_function_of_the_seed(tmp_path: Path) -> None:
    theirs = causal(2)
    first, second = (pair(tmp_path / name, theirs, copied=False)[1] for name in ("a", "b"))
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.equal(first.lm_head.weight, theirs.lm_head.weight)


def test_what_cannot_be(tmp_path: Path) -> None:
    for settings, message in (
        ({"keys": "shared"}, "student.keys=shared"),
        ({"keys": "teacher_frozen", "hidden_size": 16, "copied": False}, "hidden size 24"),
    ):
        with pytest.raises(LabError, match=message):
            pair(tmp_path, causal(2), **settings)  # type: ignore[arg-type]
    with pytest.raises(LabError, match="no output embeddings"):
        Student("s", layers=2, hidden_size=24, keys="own").head(bert())
