"""Texts of the student's own: what is written, what of it the teacher judges, and a killed run that ends bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lab import Lab
from models.test_language_model import saved_causal
from safetensors.torch import load_file

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.distill import plan
from minilm_lab.errors import LabError
from minilm_lab.models.language_model import LanguageModel
from minilm_lab.models.tapped import Tapped
from minilm_lab.objectives.base import OnPolicy, Views
from minilm_lab.objectives.lm_kd import LMKDObjective
from minilm_lab.training.on_policy import Writer

from .helpers import killed_beside_whole, lines
from .test_families import words

SEED, LENGTH = 7, 14


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return LanguageModel.load(str(saved_causal(tmp_path_factory.mktemp("own") / "m", num_hidden_layers=2)))


def batch(samples: list[int], lengths: list[int] | None = None) -> dict[str, Any]:
    ids = torch.stack(
        [torch.randint(5, 90, (LENGTH,), generator=torch.Generator().manual_seed(n)) for n in samples]
    )
    mask = None if lengths is None else torch.arange(LENGTH) < torch.tensor(lengths)[:, None]
    return {"input_ids": ids, "mask": mask, "samples": torch.tensor(samples), "masked": None, "labels": None}


def writer(model: LanguageModel, share: float = 1.0, prompt: int = 4) -> Writer:
    return Writer(model.model, model.tokenizer, OnPolicy(share, prompt), SEED, 8)


def expected(model: LanguageModel, sample: int, given: list[int], room: int) -> list[int]:
    """Sampled without a cache, a token at a time, by the inverse of the distribution function, of (seed, sample)."""
    uniform = np.random.default_rng([SEED, sample]).random(room)
    text = list(given)
    for step in range(room):
        with torch.no_grad():
            logits = model.model(torch.tensor([text])).logits[0, -1]
        sums = logits.double().softmax(0).cumsum(0)  # in the order of the ids
        token = int((sums <= uniform[step]).sum())
        if token in model.ends:
            return [*text, model.tokenizer.eos_token_id]
        text.append(token)
    return text


@pytest.mark.parametrize("lengths", [None, [14, 9, 3]])
def test_what_is_written(model: LanguageModel, lengths: list[int] | None) -> None:
    samples = [3, 40, 11]
    given = batch(samples, lengths)
    changed, written = writer(model)(given)
    for n, sample in enumerate(samples):
        length = LENGTH if lengths is None else lengths[n]
        prompt = given["input_ids"][n, : min(4, length - 1)].tolist()
        text = expected(model, sample, prompt, length - len(prompt))
        assert changed["input_ids"][n, : len(text)].tolist() == text
        places = written[n].nonzero()[:, 0].tolist()
        assert places == list(range(len(prompt), len(text)))
        if changed["mask"] is not None:
            assert changed["mask"][n].sum() == len(text)
        alone, _ = writer(model)(batch([sample], None if lengths is None else [length]))
        assert alone["input_ids"][0].tolist() == text
    assert not model.model.training


def test_a_share_of_the_steps(model: LanguageModel) -> None:
    some = writer(model, share=0.3)
    steps = [some.writes({"samples": torch.arange(8 * step, 8 * step + 4)}) for step in range(400)]
    halves = [some.writes({"samples": torch.arange(8 * step + 4, 8 * step + 8)}) for step in range(400)]
    assert steps == halves  # all micro-batches of a step alike
    assert 80 < sum(steps) < 160
    assert not any(writer(model, share=0.0).writes({"samples": torch.arange(8)}) for _ in range(3))


def test_the_teacher_judges_what_was_written_alone(model: LanguageModel, tmp_path: Path) -> None:
    teacher = LanguageModel.load(str(saved_causal(tmp_path / "t", num_hidden_layers=3)))
    objective = LMKDObjective("reverse_kl", hard_weight=0.5, on_policy=1.0, prompt=4)
    loss = objective.bind(model.model.config, teacher.model.config, 3)
    assert loss.on_policy == OnPolicy(1.0, 4) and loss.identity()["on_policy"] == 1.0
    assert "prompt" not in LMKDObjective().bind(model.model.config, teacher.model.config, 3).identity()
    changed, written = writer(model)(batch([3, 40, 11]))
    ids, mask = changed["input_ids"], changed["mask"]
    seen = (Tapped(m.model, reads)(ids, mask) for m, reads in zip((model, teacher), loss.reads, strict=True))
    found = loss(Views(*seen, mask, ids=ids, written=written))
    total, count = 0.0, 0
    for n in range(3):
        for place in written[n].nonzero()[:, 0].tolist():
            with torch.no_grad():
                log_q, log_p = (
                    m.model(ids[n : n + 1, :place]).logits[0, -1].double().log_softmax(0)
                    for m in (model, teacher)
                )
            total, count = total + float((log_q.exp() * (log_q - log_p)).sum()), count + 1
    assert list(found) == ["loss_soft"]  # and the text's own words, which are the student's, teach nothing
    assert float(found["loss_soft"]) == pytest.approx(total / count, rel=1e-4)


def test_a_killed_run_ends_bit_for_bit(tiny: list[str], lab: Lab, tmp_path: Path) -> None:
    teacher = saved_causal(tmp_path / "teacher", num_hidden_layers=4)
    more = ["objective=lm_kd", "objective.on_policy=0.6", "objective.prompt=3", "trainer.checkpoint_every=4"]
    base = words(tiny, teacher, tmp_path, *more, "student.dropout=0.1")
    undisturbed, resumed = killed_beside_whole(lab, base, tmp_path)
    assert lines(undisturbed) == lines(resumed)
    first, second = (load_file(run / "student" / "model.safetensors") for run in (undisturbed, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_refusals(tiny: list[str], tmp_path: Path) -> None:
    teacher = saved_causal(tmp_path / "teacher", num_hidden_layers=4)
    base = words(tiny, teacher, tmp_path, "objective=lm_kd", "objective.on_policy=0.5")
    with pytest.raises(LabError, match=r"objective.prompt=999 leaves the student nothing to write"):
        plan(compose_command("distill", [*base, "objective.prompt=999"]))
    both = "objective=[lm,lm_kd]", "objective.terms.lm_kd.on_policy=0.5"
    with pytest.raises(LabError, match="learns the text's own words"):
        plan(compose_command("distill", words(tiny, teacher, tmp_path, *both)))
    for bad in (
        {"on_policy": 1.5},
        {"on_policy": 0.5, "soft_weight": 0.0, "hard_weight": 1.0},
        {"prompt": 0},
    ):
        with pytest.raises(LabError, match="objective"):
            LMKDObjective(**bad)  # type: ignore[arg-type]
