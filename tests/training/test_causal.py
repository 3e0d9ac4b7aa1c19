"""A causal teacher with its head: a killed run of relations + lm_kd ends bit for bit, and its student writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lab import Lab
from models.test_language_model import saved_causal
from safetensors.torch import load_file

from minilm_lab.models.decoding import Decoding
from minilm_lab.models.language_model import LanguageModel

from .helpers import killed_beside_whole, lines, record
from .test_families import words


@pytest.mark.parametrize("keys", ["tied", "teacher_frozen"])
def test_a_killed_run_ends_bit_for_bit_and_its_student_writes(
    keys: str, tiny: list[str], lab: Lab, tmp_path: Path
) -> None:
    teacher = saved_causal(tmp_path / "teacher", num_hidden_layers=4)
    more = ["objective=[minilmv2,lm_kd]", "objective.terms.minilmv2.heads=4", "trainer.checkpoint_every=4"]
    base = words(tiny, teacher, tmp_path, *more, f"student.keys={keys}", "student.dropout=0.1")
    undisturbed, resumed = killed_beside_whole(lab, base, tmp_path)
    assert lines(undisturbed) == lines(resumed)
    first, second = (load_file(run / "student" / "model.safetensors") for run in (undisturbed, resumed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    theirs = load_file(teacher / "model.safetensors")["lm_head.weight"]
    assert ("lm_head.weight" in first) == (keys == "teacher_frozen")
    if keys == "teacher_frozen":
        assert torch.equal(first["lm_head.weight"], theirs)
    losses = record(undisturbed)["held_out_loss"]
    assert losses["last"] < losses["first"]
    student = LanguageModel.load(str(undisturbed / "student"))
    (answer,) = student.generate([student.ids("w3 w5")], Decoding(length=4))
    assert answer.tokens or answer.ended
