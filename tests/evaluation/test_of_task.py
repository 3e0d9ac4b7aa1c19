"""evaluator=task: a saved fine-tuned model has the scores that its fine-tuning ended with."""

from __future__ import annotations

from pathlib import Path

import pytest

from minilm_lab.commands import distill
from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.finetune import plan
from minilm_lab.config import build
from minilm_lab.errors import LabError


def test_a_saved_model_is_judged_as_its_fine_tuning_was(
    tiny: list[str], tiny_tune: list[str], tiny_task: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    words = [*tiny, *tiny_tune, "source=teacher", "tune.save_model=true"]
    run = plan(compose_command("finetune", words))
    record = run.make()
    task = [f"task@evaluator.{word}" if word.startswith("task=") else f"evaluator.{word}" for word in words]
    chosen = [word for word in task if word.startswith(("task@", "evaluator.task."))]
    evaluator = build(compose_command("distill", ["evaluator=task", *chosen]).evaluator, "evaluator")
    evaluator.prepare(None, tmp_path / "cache")
    result = evaluator(evaluator.open(str(run.folder.path / "model"), None))
    assert result.scores == pytest.approx(record["scores"]) and evaluator.primary == "accuracy"
    assert len(result.rows) == 21 and evaluator.identity()["task"]["fingerprint"]
    with pytest.raises(LabError, match=r"was not fine-tuned on such a task: its weights lack classifier"):
        evaluator.open(str(tiny_teacher), None)
    with pytest.raises(LabError, match="minilm-lab evaluate"):
        distill.plan(compose_command("distill", [*tiny, "evaluator=task", *chosen]))
