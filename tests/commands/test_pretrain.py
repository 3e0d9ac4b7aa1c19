"""A masked-LM head for a teacher without one: trained on a frozen body, once, for every objective that reads it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM

from minilm_lab.commands import pretrain
from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.distill import plan
from minilm_lab.errors import LabError
from minilm_lab.runs.graph import walk

#: What `tiny` says of students and objectives, which a head has nothing to do with.
OTHERS = ("student", "objective", "optim")


@pytest.fixture
def words(tiny: list[str]) -> list[str]:
    return [w for w in tiny if not w.startswith(OTHERS)]


def test_the_body_stays_and_the_head_learns(words: list[str], tiny_teacher: Path) -> None:
    ready = pretrain.plan(compose_command("pretrain", [*words, "head.steps=60", "head.lr=1e-2"]))
    record = ready.make()
    perplexity = record["held_out_perplexity"]
    assert perplexity["last"] < 0.8 * perplexity["first"]
    assert perplexity["last"] == pytest.approx(math.exp(record["held_out_loss"]["last"]))
    body = load_file(tiny_teacher / "model.safetensors")
    made = load_file(ready.folder.path / "model" / "model.safetensors")
    for name, tensor in body.items():
        if not name.startswith("pooler"):
            assert torch.equal(made[f"bert.{name}"], tensor), name
    assert all(name.startswith("cls.") for name in record["trained"])
    _, found = AutoModelForMaskedLM.from_pretrained(ready.folder.path / "model", output_loading_info=True)
    assert not found["missing_keys"]


def test_an_objective_that_reads_logits_finds_the_head_or_makes_it(tiny: list[str]) -> None:
    words = [w for w in tiny if not w.startswith("objective")]
    for objective in ("mlm_kd", "distilbert"):
        ready = plan(compose_command("distill", [*words, f"objective={objective}", "head=mlm"]))
        assert [run.command for run in walk([ready])] == ["pretrain", "distill"]
        ready.make()
    heads = list((ready.folder.runs / "pretrain").iterdir())
    assert len(heads) == 1
    # An objective that reads none is the same run with and without it.
    with_head, without = (
        plan(compose_command("distill", [*tiny, *more])).folder.identity for more in (["head=mlm"], [])
    )
    assert with_head == without


def test_a_teacher_without_a_head_refuses_and_says_what_to_do(tiny: list[str]) -> None:
    words = [w for w in tiny if not w.startswith("objective")]
    with pytest.raises(LabError, match="minilm-lab pretrain head=mlm"):
        plan(compose_command("distill", [*words, "objective=mlm_kd"])).make()


def test_nothing_to_train_is_refused(words: list[str]) -> None:
    with pytest.raises(LabError, match="head=mlm"):
        pretrain.plan(compose_command("pretrain", [*words, "head=none"]))
    with pytest.raises(LabError, match="between 0 and 1"):
        pretrain.plan(compose_command("pretrain", [*words, "head.mask_probability=1.5"]))
