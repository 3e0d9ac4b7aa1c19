"""The files of conf/objective: each names every setting, explains it, and builds."""

from __future__ import annotations

import dataclasses
import inspect
import re
import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from minilm_lab import config
from minilm_lab.commands.composing import compose_command
from minilm_lab.errors import LabError
from minilm_lab.objectives.base import Objective

from .helpers import bert, gpt2, mpnet

FOLDER = Path(__file__).resolve().parents[2] / "conf" / "objective"
CAUSAL = ("lm", "lm_kd")
FILES = sorted(FOLDER.glob("*.yaml"), key=lambda file: file.stem)


def build(file: Path) -> Objective:
    objective = config.build(OmegaConf.load(file), "objective")
    assert isinstance(objective, Objective)
    return objective


def test_the_objectives_of_the_papers_tables_are_there() -> None:
    papers = {"minilm", "minilmv2", "layer_to_layer", "value_mse", "hidden_relation"}
    baselines = {"tinybert", "distilbert", "mlm_kd", "mlm", "lm_kd", "lm", "none"}
    assert {file.stem for file in FILES} == papers | baselines | {"embedding", "sum"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_names_and_explains_every_setting(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    settings = [line for line in lines if not line.startswith(("#", "_target_"))]
    known = [field.name for field in dataclasses.fields(build(file))]  # type: ignore[arg-type]
    assert [line.partition(":")[0] for line in settings] == known
    assert all(" # " in line for line in settings)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_is_the_default_of_its_class_or_says_otherwise(file: Path) -> None:
    """Settings are those of the papers: see the docstrings."""
    objective = build(file)
    changed = {
        "minilm": {"relations": ["qk", "vv"], "heads": None},
        "layer_to_layer": {"relations": ["qk", "vv"], "heads": None, "map": "uniform"},
    }
    assert objective == type(objective)(**changed.get(file.stem, {}))


@pytest.mark.parametrize(
    "file", [f for f in FILES if f.stem not in ("none", "sum")], ids=lambda file: file.stem
)
@pytest.mark.parametrize("family", [bert, mpnet])
def test_an_objective_fits_a_common_pair_of_models(file: Path, family: type) -> None:
    if file.stem in CAUSAL:
        family = gpt2
    student, teacher = family(48, 12, 2), family(48, 12, 4)
    objective = build(file)
    loss = objective.bind(student, teacher, 4)
    ours, theirs = loss.reads
    assert ours and ours.layers(2) == 2
    assert bool(theirs) == (file.stem not in ("mlm", "lm"))
    assert loss.label() and objective.trains
    if not loss.masked_share:
        assert not ours.logits and not theirs.logits


def test_none_and_an_empty_sum() -> None:
    assert not build(FOLDER / "none.yaml").trains
    with pytest.raises(LabError, match="no terms"):
        build(FOLDER / "sum.yaml").bind(bert(), bert(), 4)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_docstring_says_what_is_read_and_shows_a_command(file: Path) -> None:
    """A table of what is read, what is needed, when to use it, and an example that composes into this objective."""
    doc = inspect.getdoc(type(build(file))) or ""
    assert "| of | reads | shape |" in doc
    assert re.search(r"^Needs: \S", doc, re.MULTILINE) and re.search(
        r"^When to use it: \S", doc, re.MULTILINE
    )
    (line,) = re.findall(r"^ +(minilm-lab .*)$", doc, re.MULTILINE)
    _, command, *words = shlex.split(line)
    composed = compose_command(command, words)
    target = OmegaConf.load(file)["_target_"]
    terms = [term["_target_"] for term in composed.objective.get("terms", {}).values()]
    assert target in [composed.objective["_target_"], *terms]
    assert command == "distill" or composed.task is not None
