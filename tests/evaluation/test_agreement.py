"""How much of another encoder's geometry is kept, against a loop over pairs and neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from minilm_lab.commands.composing import compose_command
from minilm_lab.config import section
from minilm_lab.errors import LabError
from minilm_lab.evaluation.agreement import Agreement
from minilm_lab.models.encoder import Encoder


def agreement(teacher: Path, task: Path, **more: Any) -> Agreement:
    values = {"_target_": "minilm_lab.tasks.hub.HubTask", "name": "t", "path": str(task), "text": ["text"]}
    return Agreement(task=values, against=str(teacher), length=16, **more)


def test_scores_are_those_of_a_loop(tiny_teacher: Path, tiny_task: Path, tmp_path: Path) -> None:
    evaluator = agreement(tiny_teacher, tiny_task)
    evaluator.prepare(None, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tiny_teacher)
    config = BertConfig.from_pretrained(tiny_teacher, num_hidden_layers=2, initializer_range=0.3)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        models = {
            "small": BertModel(config),
            "wide": BertModel(BertConfig(**(config.to_dict() | {"hidden_size": 96}))),
        }
    texts = list(dict.fromkeys(evaluator.splits.dev["text"][:]))
    theirs = Encoder(AutoModel.from_pretrained(tiny_teacher), tokenizer, length=16)(texts).double()
    for name, model in models.items():
        encoder = Encoder(model, tokenizer, length=16)
        ours = encoder(texts).double()

        def cosine(vectors: torch.Tensor, a: int, b: int) -> float:
            return float(vectors[a] @ vectors[b] / vectors[a].norm() / vectors[b].norm())

        n = len(texts)
        pairs = [(a, b) for a in range(n) for b in range(a)]
        ranks = spearmanr([cosine(ours, *p) for p in pairs], [cosine(theirs, *p) for p in pairs]).statistic
        shared = 0
        for a in range(n):
            others = [b for b in range(n) if b != a]
            near = [sorted(others, key=lambda b, v=v, a=a: -cosine(v, a, b))[:10] for v in (ours, theirs)]
            shared += len(set(near[0]) & set(near[1]))
        scores = evaluator(encoder).scores
        assert scores["agreement"] == pytest.approx(100 * ranks, abs=1e-6)
        assert scores["neighbours"] == pytest.approx(100 * shared / (10 * n))
        if name == "small":
            same = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in zip(ours, theirs, strict=True)]
            assert scores["cosine"] == pytest.approx(100 * sum(same) / n, abs=1e-4)
        else:
            assert "cosine" not in scores


def test_a_model_agrees_with_itself(tiny_teacher: Path, tiny_task: Path, tmp_path: Path) -> None:
    evaluator = agreement(tiny_teacher, tiny_task)
    evaluator.prepare(None, tmp_path)
    scores = evaluator(evaluator.open(str(tiny_teacher), None)).scores
    assert scores == pytest.approx({"agreement": 100, "neighbours": 100, "cosine": 100})


def test_the_other_model_is_part_of_the_identity(tiny_teacher: Path, tiny_task: Path, tmp_path: Path) -> None:
    evaluator = agreement(tiny_teacher, tiny_task)
    evaluator.prepare(None, tmp_path)
    assert "folder" in evaluator.identity()["against"]


@pytest.mark.parametrize(
    ("more", "message"),
    [({"against": None}, "evaluator.against must be given"), ({"dev_examples": 10}, "must be more than 10")],
)
def test_what_cannot_be_measured_is_refused(more: dict[str, Any], message: str, tiny_task: Path) -> None:
    with pytest.raises(LabError, match=message):
        Agreement(**{"task": agreement(tiny_task, tiny_task).task, "against": "x", **more})


def test_it_composes() -> None:
    cfg = compose_command("evaluate", ["evaluator=agreement", "evaluator.against=all_minilm_l6"])
    assert section(cfg, "evaluator").against == "all_minilm_l6"
    with pytest.raises(LabError, match=r"evaluator\.against"):
        section(compose_command("evaluate", ["evaluator=agreement"]), "evaluator")
