"""One step against its closed form; the model is afterwards as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.evaluate import plan
from minilm_lab.errors import LabError
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.studies.knowledge.leakage import Leakage, learn


def test_a_step_of_a_bare_softmax_is_its_closed_form() -> None:
    draw = torch.Generator().manual_seed(0)
    keys = torch.randn(30, 7, generator=draw, dtype=torch.float64)
    query = nn.Parameter(torch.randn(7, generator=draw, dtype=torch.float64))
    old = query.detach().clone()
    gains = learn(lambda: keys @ query, [query], 4, 0.3, 1)
    p = (keys @ old).softmax(dim=0)
    logits = keys @ old - 0.3 * keys @ ((p[:, None] * keys).sum(dim=0) - keys[4])
    assert torch.allclose(gains, logits.log_softmax(0) - (keys @ old).log_softmax(0))
    # In the keys: that of the target moves along the query, all others away from it by their probability.
    weight, fixed = nn.Parameter(keys.clone()), old
    gains = learn(lambda: weight @ fixed, [weight], 4, 0.3, 1)
    wish = -p + (torch.arange(30) == 4)
    logits = keys @ fixed + 0.3 * wish * (fixed @ fixed)
    assert torch.allclose(gains, logits.log_softmax(0) - (keys @ fixed).log_softmax(0))


def evaluator(tmp_path: Path, **settings: object) -> Leakage:
    made = Leakage(
        lists=["elements", "rivers"], style="bare", clusters=8, best_rank=1, worst_rank=400, **settings
    )  # type: ignore[arg-type]
    made.prepare(None, tmp_path)
    return made


def test_what_moves_and_that_all_is_undone(causal: Path, tmp_path: Path) -> None:
    model = LanguageModel.load(str(causal))
    head = model.model.get_output_embeddings()
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    for trained, moves in (("body", (0, 1)), ("keys", (1, 0)), ("all", (1, 1))):
        result = evaluator(tmp_path, trained=trained, lr=1e-3)(model)
        assert (result.scores["key_change"] > 0, result.scores["body_change"] > 0) == moves
        assert result.scores["target"] > 0 and len(result.rows) == 2 and result.facts["left_out"] == 0
        assert head.weight is model.model.get_input_embeddings().weight, "tied again"
        assert all(torch.equal(value, before[name]) for name, value in model.model.state_dict().items())
        assert not any(p.requires_grad for p in model.model.parameters())


def test_bad_settings(causal: Path, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"evaluator.trained=head: allowed are body, keys, all"):
        Leakage(trained="head")
    with pytest.raises(LabError, match=r"evaluator.lr=0.0 must be more than 0"):
        Leakage(lr=0.0)
    with pytest.raises(LabError, match=r"evaluator.best_rank=9 is more than worst_rank=5"):
        Leakage(best_rank=9, worst_rank=5)
    words = [
        f"source={causal}",
        "evaluator=leakage",
        "evaluator.clusters=8",
        "logger=none",
        "evaluator.best_rank=5000",
    ]
    paths = [
        f"paths.runs={tmp_path / 'runs'}",
        f"paths.cache={tmp_path / 'cache'}",
        "evaluator.worst_rank=6000",
    ]
    with pytest.raises(LabError, match="widen the range"):
        plan(compose_command("evaluate", [*words, *paths])).make()
