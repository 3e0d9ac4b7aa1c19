"""adapter=lora in the fine-tuner: what is trained, what a checkpoint holds, what is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lab import Lab
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.finetune import plan
from minilm_lab.errors import LabError
from minilm_lab.models.adapters import Adapter
from minilm_lab.tasks.base import Backbone
from minilm_lab.tasks.module import load_module

from .helpers import column, kill_at, only_run, record

peft = pytest.importorskip("peft", reason="extra `decoders` is not installed")


@pytest.fixture
def words(tiny: list[str], tiny_tune: list[str]) -> list[str]:
    return [*tiny, *tiny_tune, "source=teacher", "adapter=lora", "tune.save_model=true", "tune.lr=1e-2"]


def test_adapters_and_the_head_are_trained_and_nothing_else(
    words: list[str], tiny_teacher: Path, tmp_path: Path
) -> None:
    run = plan(compose_command("finetune", words))
    found = run.make()
    folder = run.folder.path / "model"
    saved = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    start = AutoModelForSequenceClassification.from_pretrained(tiny_teacher).state_dict()
    changed = {n for n, p in saved.state_dict().items() if n in start and not torch.equal(p, start[n])}
    inside = {n for n in changed if n.startswith("bert.")}
    assert inside and all(".attention." in n and n.endswith("weight") for n in inside)
    assert {"classifier.weight", "classifier.bias"} <= changed
    # The merged model is the base with the adapter folder on it, as peft itself reads them.
    base = AutoModelForSequenceClassification.from_pretrained(tiny_teacher, num_labels=2)
    base.classifier.load_state_dict(saved.classifier.state_dict())
    adapted = peft.PeftModel.from_pretrained(base, str(folder / "adapter")).eval()
    batch = AutoTokenizer.from_pretrained(folder)(["the cat sat on a mat"], return_tensors="pt")
    with torch.no_grad():
        assert torch.allclose(adapted(**batch).logits, saved(**batch).logits, atol=1e-5)
    ranks = 4 * 4 * 2 * 8 * 48  # layers, maps, two matrices of rank 8
    assert found["trained_parameters"] == ranks + 2 * 48 + 2
    assert found["parameters"]["total"] == sum(p.numel() for p in saved.bert.parameters())


def test_a_checkpoint_holds_what_is_trained(words: list[str], lab: Lab, tmp_path: Path) -> None:
    """Killed and started again it ends as an unbroken run does, to the bit."""
    words = [*words, "trainer.checkpoint_every=2", "scale.epochs=2"]
    whole = lab.run("finetune", *words)
    assert whole.code == 0, whole.err
    other = [f"paths.runs={tmp_path / 'other'}" if w.startswith("paths.runs") else w for w in words]
    running = lab.start("finetune", *other)
    kill_at(running, tmp_path / "other", "finetune", 5)
    running.finish()
    folder = only_run(tmp_path / "other", "finetune")
    [*_, checkpoint] = sorted((folder / "checkpoints").glob("*.ckpt"))
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    parameters = {n for n in state if not n.endswith(("position_ids", "token_type_ids"))}
    assert parameters and all("lora_" in n or "classifier" in n for n in parameters)
    assert lab.run("finetune", *other).code == 0
    unbroken = only_run(tmp_path / "runs", "finetune")
    assert column(folder, "loss") == column(unbroken, "loss")
    assert record(folder)["scores"] == record(unbroken)["scores"]


def test_without_adapters_nothing_changes_and_with_them_the_run_is_another(words: list[str]) -> None:
    plain = [word for word in words if not word.startswith("adapter")]
    runs = {
        name: plan(compose_command("finetune", [*plain, *more]))
        for name, more in {
            "left out": [],
            "none": ["adapter=none"],
            "lora": ["adapter=lora"],
            "rank": ["adapter=lora", "adapter.rank=4"],
        }.items()
    }
    assert runs["left out"].identity == runs["none"].identity and "adapter" not in runs["none"].what
    assert len({run.identity for run in runs.values()}) == 3


def test_the_seed_decides_the_adapters(tiny_teacher: Path) -> None:
    backbone = Backbone(str(tiny_teacher), None, AutoTokenizer.from_pretrained(tiny_teacher))

    def drawn(seed: int) -> dict[str, Any]:
        torch.manual_seed(0)
        module = load_module("classification", backbone, 2, ["a", "b"])
        module.adapt(Adapter(kind="lora"), seed, str(tiny_teacher))
        return {n: p.detach() for n, p in module.named_parameters() if "lora_A" in n}

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert first and all(torch.equal(first[n], again[n]) for n in first)
    assert not any(torch.equal(first[n], other[n]) for n in first)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["adapter.targets=[query,kee]"], "no linear map of this model is called 'kee'"),
        (["tune.pooling=mean"], "adapter=none"),
    ],
)
def test_what_cannot_be_adapted_is_refused(more: list[str], message: str, words: list[str]) -> None:
    with pytest.raises(LabError, match=message):
        plan(compose_command("finetune", [*words, *more])).make()
