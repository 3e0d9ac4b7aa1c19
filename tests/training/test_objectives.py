"""Every objective in the one trainer: the loss falls, the student is saved whole, a killed run ends the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lab import Lab
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForMaskedLM

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.distill import plan

from .helpers import kill_at, lines, only_run, record

OBJECTIVES = {
    "minilm": [],
    "minilmv2": ["objective.heads=12"],
    "layer_to_layer": [],
    "value_mse": [],
    "hidden_relation": ["objective.heads=12"],
    "tinybert": [],
    "mlm_kd": ["head=mlm"],
    "distilbert": ["head=mlm"],
    "mlm": [],
    "[minilmv2,mlm_kd]": ["head=mlm", "objective.terms.minilmv2.heads=12", "objective.weights={mlm_kd: 0.5}"],
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_twenty_steps_lower_the_loss(objective: str, tiny: list[str]) -> None:
    words = [w for w in tiny if not w.startswith("objective")]
    more = [f"objective={objective}", *OBJECTIVES[objective], "scale.steps=20", "student.dropout=0"]
    ready = plan(compose_command("distill", [*words, *more]))
    ready.make()
    found = record(ready.folder.path)
    assert found["held_out_loss"]["last"] < 0.98 * found["held_out_loss"]["first"]
    student, loading = AutoModel.from_pretrained(ready.folder.path / "student", output_loading_info=True)
    assert not loading["missing_keys"] and student.config.num_hidden_layers == 2
    reads_logits = "mlm" in objective or objective == "distilbert"
    if reads_logits:
        _, loading = AutoModelForMaskedLM.from_pretrained(
            ready.folder.path / "student", output_loading_info=True
        )
        assert not loading["missing_keys"]
    # Objectives on the last hidden states train the whole last layer; relations of Q, K, V do not.
    last_ffn = any("layer.1.output.dense" in name for name in found["untrained"])
    reaches_the_end = reads_logits or objective in ("hidden_relation", "tinybert")
    assert last_ffn is not reaches_the_end


def test_the_start_is_the_same_whatever_the_objective(tiny: list[str]) -> None:
    words = [w for w in tiny if not w.startswith("objective")]
    starts = []
    for objective in ("none", "mlm"):
        ready = plan(
            compose_command("distill", [*words, f"objective={objective}", "scale.steps=1", "optim.lr=1e-12"])
        )
        ready.make()
        starts.append(AutoModel.from_pretrained(ready.folder.path / "student").state_dict())
    for name, tensor in starts[0].items():
        assert torch.allclose(starts[1][name], tensor, atol=1e-9), name


@pytest.mark.parametrize("objective", ["tinybert", "distilbert"])
def test_a_killed_run_with_masks_and_lifts_ends_bit_for_bit(
    objective: str, tiny: list[str], lab: Lab, tmp_path: Path
) -> None:
    shape = ["student=half_depth_half_width"] if objective == "tinybert" else ["head=mlm", "head.steps=4"]
    words = [w for w in tiny if not w.startswith(("objective", "student", "paths.runs"))]
    words += [
        f"objective={objective}",
        *(shape if objective == "tinybert" else ["student=half_depth", *shape]),
    ]
    words += ["student.dropout=0.1", "trainer.checkpoint_every=4"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert lab.run("distill", *words, f"paths.runs={whole}").code == 0
    running = lab.start("distill", *words, f"paths.runs={cut}")
    kill_at(running, cut, "distill", 9)
    running.finish()
    assert lab.run("distill", *words, f"paths.runs={cut}").code == 0
    one, two = only_run(whole, "distill"), only_run(cut, "distill")
    assert lines(one) == lines(two)
    first, second = (load_file(run / "student" / "model.safetensors") for run in (one, two))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_pair_may_name_a_layer_above_the_distilled_one(tiny: list[str], tiny_teacher: Path) -> None:
    """teacher.layer=2, and a pair with layer 4: the teacher is loaded as far as the pair asks."""
    words = [word for word in tiny if not word.startswith("objective")]
    more = ["objective=tinybert", "teacher.layer=2", "objective.pairs=[[2,4]]", "scale.steps=2"]
    ready = plan(compose_command("distill", [*words, *more]))
    ready.make()
    assert record(ready.folder.path)["held_out_loss"]["first"] > 0
