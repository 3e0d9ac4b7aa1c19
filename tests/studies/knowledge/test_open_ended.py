"""Measures of diversity on texts whose diversity is known, and the evaluator with a tiny encoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.evaluate import plan
from minilm_lab.errors import LabError
from minilm_lab.studies.knowledge import diversity
from minilm_lab.studies.knowledge.open_ended import OpenEnded


def test_measures_on_what_is_known() -> None:
    assert diversity.distinct_n(["a b a", "A b"], 1) == pytest.approx(2 / 5)
    assert (
        diversity.distinct_n(["a b a", "a b"], 2) == pytest.approx(2 / 3)
        and diversity.distinct_n(["a"], 2) == 0
    )
    assert diversity.vendi(torch.eye(7)) == pytest.approx(7) and diversity.vendi(
        torch.ones(7, 3)
    ) == pytest.approx(1)
    two = torch.eye(2).repeat_interleave(4, dim=0)
    assert diversity.vendi(two) == pytest.approx(2) and diversity.mean_cosine(two) == pytest.approx(
        2 * 4 * 3 / 56
    )
    alike, apart = (
        ["the cat sat on the mat"] * 3,
        ["the cat sat on", "a dog ran over there", "rain fell all night long"],
    )
    assert diversity.self_bleu(alike) == pytest.approx(100) and diversity.self_bleu(apart) < 20
    assert diversity.self_bleu(["one"]) == 0


@pytest.mark.parametrize("decoding", ["rank", "icn", "sample"])
def test_from_the_command(causal: Path, tiny_teacher: Path, tmp_path: Path, decoding: str) -> None:
    words = [
        f"source={causal}",
        "evaluator=open_ended",
        f"evaluator.encoder={tiny_teacher}",
        "evaluator.answers=6",
    ]
    words += ["evaluator.rounds=3", "evaluator.length=5", f"evaluator.decoding={decoding}", "logger=none"]
    run = plan(
        compose_command("evaluate", [*words, f"paths.runs={tmp_path / 'r'}", f"paths.cache={tmp_path / 'c'}"])
    )
    record = run.make()
    rows = [json.loads(line) for line in (run.folder.path / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == 12 and 1 <= record["scores"]["vendi"] <= 6 and len(record["details"]["by_kind"]) == 2


def test_bad_settings() -> None:
    with pytest.raises(LabError, match=r"evaluator.decoding=beam: allowed are rank, icn, sample"):
        OpenEnded(decoding="beam")
    with pytest.raises(LabError, match=r"evaluator.asks must name something"):
        OpenEnded(asks=[])
