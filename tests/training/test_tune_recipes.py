"""tune.pooling, tune.pairs and tune.teacher: against plain computations with the library's own models."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from data.helpers import byte_bpe, wordpiece
from models.helpers import saved
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.evaluate import plan as plan_evaluation
from minilm_lab.commands.finetune import plan
from minilm_lab.errors import LabError
from minilm_lab.tasks.augmented import Augmented
from minilm_lab.tasks.base import Backbone
from minilm_lab.tasks.features import encode
from minilm_lab.tasks.module import load_module
from minilm_lab.tasks.pooled import load_pooled, split_pairs
from minilm_lab.tasks.taught import Taught

from .helpers import lines

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "two", "dogs", "running"]
PAIRS = [("the cat sat", "a dog"), ("rain", "two dogs running on a mat and the cat"), ("a", "a")]


@pytest.fixture
def words(tiny: list[str], tiny_tune: list[str]) -> list[str]:
    return [*tiny, *tiny_tune, "source=teacher"]


@pytest.fixture
def pairs(tmp_path: Path) -> list[str]:
    """A task of pairs whose number is the share of words that both have."""
    draw = random.Random(3)
    for split, rows in (("train", 64), ("validation", 24)):
        lines = ["a,b,score,same"]
        for _ in range(rows):
            first, second = (draw.sample(WORDS, draw.randint(3, 6)) for _ in range(2))
            share = len({*first} & {*second}) / len({*first} | {*second})
            lines.append(
                f"{' '.join(first)},{' '.join(second)},{5 * share:.3f},{'yes' if share > 0.3 else 'no'}"
            )
        (tmp_path / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return [f"task.path={tmp_path}", "task.text=[a,b]"]


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_pairs_apart_are_what_the_tokenizer_makes_of_each_text(family: str) -> None:
    tokenizer = wordpiece() if family == "bert" else byte_bpe()
    together = tokenizer(*map(list, zip(*PAIRS, strict=True)), padding=True, return_tensors="pt")
    apart = split_pairs(together, tokenizer)
    texts = [first for first, _ in PAIRS] + [second for _, second in PAIRS]
    expected = tokenizer(texts, padding=True, return_tensors="pt")
    assert apart["input_ids"].tolist() == expected["input_ids"].tolist()
    assert apart["attention_mask"].tolist() == expected["attention_mask"].tolist()


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("how", ["cross", "bi"])
def test_scores_are_those_of_the_definition(kind: str, how: str, tiny_teacher: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_teacher)
    outputs = 3 if kind == "classification" else 1
    module = load_pooled(
        kind, Backbone(str(tiny_teacher), None, tokenizer, False, "mean", how), outputs, (0.0, 5.0)
    )
    batch = tokenizer(*map(list, zip(*PAIRS, strict=True)), padding=True, return_tensors="pt")
    body = AutoModel.from_pretrained(tiny_teacher).double().eval()

    def vector(*texts: str) -> torch.Tensor:
        return body(**tokenizer(*texts, return_tensors="pt")).last_hidden_state[0].mean(dim=0)

    module.eval()
    with torch.no_grad():
        given = module.logits(dict(batch))
        for row, (first, second) in zip(given, PAIRS, strict=True):
            u, v = vector(first), vector(second)
            if how == "cross":
                expected = module.head.double()(vector(first, second))
            elif kind == "classification":
                expected = module.head.double()(torch.cat([u, v, (u - v).abs()]))
            else:
                expected = 5 * (u @ v / u.norm() / v.norm())[None]
            torch.testing.assert_close(row.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("more", "column"),
    [("tune.pooling=mean", "text"), ("tune.pairs=bi", "pairs"), ("tune.pairs=bi", "numbers")],
)
def test_a_saved_model_scores_again_what_it_scored(
    more: str, column: str, words: list[str], pairs: list[str]
) -> None:
    """The head is saved beside the body, and `evaluator=task` finds it."""
    task = [] if column == "text" else [*pairs, "task.length=32"]
    if column == "pairs":
        task += ["task.label=same"]
    if column == "numbers":
        task += ["task=regression", "task.label=score"]
    base = plan(compose_command("finetune", [*words, *task]))
    ready = plan(compose_command("finetune", [*words, *task, more, "tune.save_model=true"]))
    assert ready.identity != base.identity
    found = ready.make()
    kind = "regression" if column == "numbers" else "classification"
    evaluated = plan_evaluation(
        compose_command(
            "evaluate",
            [
                *[w for w in words if w.startswith(("teacher", "impl", "logger", "paths"))],
                f"source={ready.folder.path}",
                "evaluator=task",
                f"task@evaluator.task={kind}",
                *[f"evaluator.{w}" for w in [*words, *task] if w.startswith("task.")],
            ],
        )
    ).make()
    assert evaluated["scores"] == pytest.approx(found["scores"], abs=1e-3)


def test_what_a_teacher_teaches(tiny_teacher: Path, tmp_path: Path) -> None:
    """(1 − w) of the labels, w T² KL to the teacher, by hand; no gradient and no checkpoint of the teacher."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_teacher)
    torch.manual_seed(0)
    student, teacher = (
        load_module("classification", Backbone(str(tiny_teacher), None, tokenizer), 3) for _ in range(2)
    )
    taught = Taught(student, teacher, 0.3, 2.0)
    batch = dict(
        tokenizer(["the cat sat", "two dogs"], padding=True, return_tensors="pt"), labels=torch.tensor([0, 2])
    )
    taught.eval()
    losses = taught.losses(batch)
    with torch.no_grad():
        ours, theirs = (m.model.double()(**student.inputs(batch)).logits for m in (student, teacher))
    p, q = (ours / 2).softmax(-1), (theirs / 2).softmax(-1)
    expected = 0.3 * 4 * (q * (q / p).log()).sum(-1).mean()
    assert float(losses["loss_teacher"]) == pytest.approx(float(expected), abs=1e-6)
    labels = 0.7 * F.cross_entropy(ours, batch["labels"])
    assert float(losses["loss_labels"]) == pytest.approx(float(labels), abs=1e-5)
    names = set(taught.state_dict())
    assert names == {f"student.{name}" for name in student.state_dict()}
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_the_teacher_is_made_first_and_then_found(words: list[str], tmp_path: Path) -> None:
    taught = [*words[:-1], "tune.teacher=teacher", "tune.teacher_weight=0.9"]
    ready = plan(compose_command("finetune", taught))
    alone = plan(compose_command("finetune", words[:-1]))
    assert ready.identity != alone.identity
    assert (
        plan(compose_command("finetune", [*words, "tune.temperature=3"])).identity
        == plan(compose_command("finetune", words)).identity
    ), "without a teacher there is nothing to soften"
    record = ready.make()
    own = plan(compose_command("finetune", [*words, "tune.save_model=true"]))
    assert own.done and own.identity in {run.identity for run in ready.inputs}
    alone.make()
    assert record["history"] != alone.folder.result()["history"]
    assert (own.folder.path / "model").is_dir() and not (ready.folder.path / "model").exists()


def test_a_teacher_that_kept_no_model_is_said(words: list[str]) -> None:
    plan(compose_command("finetune", words)).make()
    ready = plan(compose_command("finetune", [*words[:-1], "tune.teacher=teacher"]))
    with pytest.raises(LabError, match=r"kept no model.*tune.save_model=true"):
        ready.make()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["tune.pooling=max"], "tune.pooling=max: allowed are cls, mean"),
        (["tune.pairs=bi"], "task=classification has single texts"),
        (["tune.teacher_weight=0"], "give 0 < teacher_weight <= 1"),
        (["task=token_classification", "tune.pooling=mean"], "is of kind token_classification"),
        (["tune.teacher=nowhere"], "there is no such run"),
    ],
)
def test_what_cannot_be_is_refused(more: list[str], says: str, words: list[str]) -> None:
    with pytest.raises(LabError, match=says):
        plan(compose_command("finetune", [*words, *more])).make()


def test_a_teacher_with_another_tokenizer_is_refused(tiny_teacher: Path, tmp_path: Path) -> None:
    student = load_module(
        "classification", Backbone(str(tiny_teacher), None, AutoTokenizer.from_pretrained(tiny_teacher)), 2
    )
    other = saved(tmp_path / "other")
    teacher = load_module(
        "classification", Backbone(str(other), None, AutoTokenizer.from_pretrained(other)), 2
    )
    with pytest.raises(LabError, match="another tokenizer"):
        Taught(student, teacher, 0.5, 1.0)
    assert isinstance(teacher, nn.Module)


@pytest.mark.parametrize("kind", ["wordpiece", "bytes"])
def test_words_are_replaced_by_their_neighbours(kind: str) -> None:
    tokenizer = wordpiece() if kind == "wordpiece" else byte_bpe()
    texts = ["the cat sat on a mat and saw two dogs running", "a cat", "unbelievable, 42 dogs!"]
    features = encode(tokenizer, texts, texts[::-1], length=40, labels=np.array([0, 1, 2]))
    table = torch.randn(len(tokenizer), 6, generator=torch.Generator().manual_seed(1))
    copies = 60
    samples = Augmented(features, tokenizer, table, copies, seed=5)
    assert samples.lengths.tolist() == features.lengths.tolist() * (copies + 1)
    mark = "##" if kind == "wordpiece" else "\u0120"
    vocabulary = tokenizer.get_vocab()

    def begins(token: str) -> bool:
        special = token in tokenizer.all_special_tokens
        return special or (not token.startswith("##") if kind == "wordpiece" else token.startswith(mark))

    words = {
        number
        for token, number in vocabulary.items()
        if begins(token) and token not in tokenizer.all_special_tokens and token.removeprefix("\u0120").isalpha()
        and len(token.removeprefix("\u0120")) > 1
    }  # fmt: skip
    assert len(words) > 5
    plain, replaced, could = features.batch(np.arange(3)), 0, 0
    for number in range(3 * (copies + 1)):
        batch = samples.batch(np.array([number]))
        row = number % 3
        before = plain["input_ids"][row, : features.lengths[row]].tolist()
        after = batch["input_ids"][0].tolist()
        assert batch["labels"].tolist() == [row] and len(after) == len(before)
        if "token_type_ids" in batch:
            assert batch["token_type_ids"][0].tolist() == plain["token_type_ids"][row, : len(before)].tolist()
        tokens = tokenizer.convert_ids_to_tokens(before)
        for place, (old, new) in enumerate(zip(before, after, strict=True)):
            whole = old in words and (place + 1 == len(before) or begins(tokens[place + 1]))
            could += whole and number >= 3
            replaced += old != new
            if old != new:
                assert whole and number >= 3 and new in words
                cosines = {w: float(F.cosine_similarity(table[old], table[w], dim=0)) for w in words - {old}}
                nearest = sorted(cosines, key=lambda w: -cosines[w])[:15]
                assert new in nearest
    assert 0.3 < replaced / could < 0.5
    together = samples.batch(np.array([5, 4, 8]))["input_ids"]
    alone = samples.batch(np.array([4]))["input_ids"]
    assert together[1, : alone.shape[1]].tolist() == alone[0].tolist()
    with pytest.raises(LabError, match="no tokens that are whole words"):
        Augmented(features, AutoTokenizerOfLetters(tokenizer), table, 1, 0)  # type: ignore[arg-type]


class AutoTokenizerOfLetters:
    """A vocabulary without words."""

    def __init__(self, tokenizer: object) -> None:
        self.all_special_ids = tokenizer.all_special_ids  # type: ignore[attr-defined]

    def get_vocab(self) -> dict[str, int]:
        return {"a": 0, "##b": 1}


def test_augmented_rows_from_the_command(words: list[str], pairs: list[str]) -> None:
    base = [*words, "task=regression", *pairs, "task.label=score"]
    plain, more = (
        plan(compose_command("finetune", base)),
        plan(compose_command("finetune", [*base, "tune.augment=2"])),
    )
    assert plain.identity != more.identity and "augment" not in plain.what["tune"]
    assert more.cost() > 2 * plain.cost()
    plain.make(), more.make()
    steps = [max(line["step"] for line in lines(run.folder.path)) for run in (plain, more)]
    assert steps[1] == 3 * steps[0]
    tags = ["task=token_classification", "task.path=x", "tune.augment=1"]
    with pytest.raises(LabError, match=r"tune.augment is for one label"):
        plan(compose_command("finetune", [*words, *tags]))
