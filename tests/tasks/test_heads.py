"""A head that a checkpoint brings along: kept where its classes have the task's names, in whatever order; else drawn anew."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.finetune import plan
from minilm_lab.errors import LabError
from minilm_lab.tasks.base import Backbone
from minilm_lab.tasks.module import load_module
from minilm_lab.tasks.pooled import load_pooled

BATCH = {
    "input_ids": torch.tensor([[2, 20, 21, 22, 3]]),
    "attention_mask": torch.ones(1, 5, dtype=torch.long),
}


def saved(
    teacher: Path, folder: Path, names: list[str] | None, loader: type = AutoModelForSequenceClassification
) -> Path:
    """A checkpoint with a head that tells its outputs apart."""
    names_of = (
        {}
        if names is None
        else {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = loader.from_pretrained(teacher, **(names_of or {"num_labels": 3}))
        head = model.qa_outputs if loader is AutoModelForQuestionAnswering else model.classifier
        torch.nn.init.normal_(head.weight, std=0.5)
        torch.nn.init.normal_(head.bias, std=0.5)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(teacher).save_pretrained(folder)
    return folder


def backbone(folder: Path, trained: bool = False) -> Backbone:
    return Backbone(str(folder), None, AutoTokenizer.from_pretrained(folder), trained)


@pytest.mark.parametrize(
    ("kind", "loader"),
    [
        ("classification", AutoModelForSequenceClassification),
        ("token_classification", AutoModelForTokenClassification),
    ],
)
def test_classes_are_matched_by_their_names(
    kind: str, loader: type, tiny_teacher: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = saved(tiny_teacher, tmp_path / "m", ["NEUTRAL", "not_entailed", "Entailed"], loader)
    with torch.no_grad():
        theirs = loader.from_pretrained(folder).eval()(**BATCH).logits
    caplog.set_level(logging.INFO)
    labels = ["entailed", "neutral", "not-entailed"]
    module = load_module(kind, backbone(folder), 3, labels).eval()
    with torch.no_grad():
        ours = module.logits(BATCH)
    assert torch.allclose(ours, theirs[..., [2, 0, 1]], atol=1e-6)
    assert "it is kept, matched by their names" in caplog.text
    module.save(tmp_path / "again")
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config["id2label"] == {"0": "entailed", "1": "neutral", "2": "not-entailed"}
    assert config["label2id"] == {name: n for n, name in enumerate(labels)}
    with torch.no_grad():
        again = loader.from_pretrained(tmp_path / "again").eval()(**BATCH).logits
    assert torch.allclose(again, ours, atol=1e-6)


@pytest.mark.parametrize("names", [None, ["a", "b", "c"]], ids=["unnamed", "others"])
def test_a_head_of_other_classes_gives_way_to_a_new_one(
    names: list[str] | None, tiny_teacher: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = saved(tiny_teacher, tmp_path / "m", names)
    caplog.set_level(logging.INFO)
    heads = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        model = load_module("classification", backbone(folder), 3, ["x", "y", "z"]).model
        heads.append(model.classifier.weight.detach().clone())
        assert torch.equal(model.classifier.bias.detach(), torch.zeros(3))
        assert 0.1 < float(heads[-1].std()) / model.config.initializer_range < 10
        pooler = BertForSequenceClassification.from_pretrained(folder).bert.pooler.dense.weight
        assert torch.equal(model.bert.pooler.dense.weight, pooler), "the body stays"
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert "gives way to a new one" in caplog.text


def test_a_head_of_two_layers_is_drawn_whole(tmp_path: Path, tiny_teacher: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_teacher)
    shape = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 32}
    config = RobertaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=66, pad_token_id=0, num_labels=3, **shape
    )
    model = RobertaForSequenceClassification(config)
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.fill_(7.0)
    model.save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    head = load_module("classification", backbone(tmp_path / "m"), 3, ["x", "y", "z"]).model.classifier
    assert all(float(parameter.detach().abs().max()) < 1 for parameter in head.parameters())


def test_what_is_measured_must_tell_the_tasks_classes(
    tiny_teacher: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = saved(tiny_teacher, tmp_path / "m", ["a", "b", "c"])
    with pytest.raises(LabError, match="tells the classes a, b, c; the task has x, y, z"):
        load_module("classification", backbone(folder, trained=True), 3, ["x", "y", "z"])
    unnamed = saved(tiny_teacher, tmp_path / "u", None)
    with torch.no_grad():
        theirs = AutoModelForSequenceClassification.from_pretrained(unnamed).eval()(**BATCH).logits
        module = load_module("classification", backbone(unnamed, trained=True), 3, ["x", "y", "z"]).eval()
        assert torch.allclose(module.logits(BATCH), theirs, atol=1e-6)
    assert "does not name its classes; they are taken as x, y, z" in caplog.text


def test_start_and_end_of_a_span_always_mean_the_same(
    tiny_teacher: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = saved(tiny_teacher, tmp_path / "m", ["start", "end"], AutoModelForQuestionAnswering)
    caplog.set_level(logging.INFO)
    module = load_module("span", backbone(folder), 2)
    theirs = AutoModelForQuestionAnswering.from_pretrained(folder)
    assert torch.equal(module.model.qa_outputs.weight, theirs.qa_outputs.weight)
    assert "it is kept" in caplog.text


def test_a_saved_pooled_head_of_other_classes_is_refused(tiny_teacher: Path, tmp_path: Path) -> None:
    start = Backbone(str(tiny_teacher), None, AutoTokenizer.from_pretrained(tiny_teacher), False, "mean")
    load_pooled("classification", start, 2, (0, 1), ["cat", "dog"]).save(tmp_path / "m")
    there = backbone(tmp_path / "m", trained=True)
    assert load_pooled("classification", there, 2, (0, 1), ["cat", "dog"]).head is not None
    with pytest.raises(LabError, match="tells the classes"):
        load_pooled("classification", there, 2, (0, 1), ["dog", "cat"])


def test_a_fine_tuned_model_scores_the_same_where_the_classes_are_in_another_order(
    tiny: list[str], tiny_tune: list[str], tiny_task: Path, tmp_path: Path
) -> None:
    """Evaluated and fine-tuned on with the classes declared the other way round: the checkpoint's own predictions."""
    words = [*tiny, *tiny_tune, "source=teacher", "tune.save_model=true", "tune.lr=1e-3"]
    first = plan(compose_command("finetune", words))
    record = first.make()
    from minilm_lab.commands import evaluate

    model = f"source={first.folder.path / 'model'}"
    for order in ("[cat,dog]", "[dog,cat]"):
        given = [
            *tiny,
            *(w for w in tiny_tune if w.startswith(("task", "scale"))),
            model,
            f"task.labels={order}",
        ]
        given = [
            word.replace("task", "task@evaluator.task", 1) if word == "task=classification" else word
            for word in given
        ]
        given = [
            word.replace("task.", "evaluator.task.", 1) if word.startswith("task.") else word
            for word in given
        ]
        measured = evaluate.plan(
            compose_command("evaluate", ["evaluator=task", *(w for w in given if "scale" not in w)])
        ).make()
        assert measured["scores"]["accuracy"] == pytest.approx(record["scores"]["accuracy"])
