"""`minilm-lab evaluate`: measure a student (made first if need be), the teacher, or any model, without training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from omegaconf import DictConfig, OmegaConf

from minilm_lab import config
from minilm_lab.commands.parts import read_how
from minilm_lab.commands.source import source_of
from minilm_lab.errors import LabError
from minilm_lab.evaluation.base import Evaluator
from minilm_lab.models import cost
from minilm_lab.once import once
from minilm_lab.runs.graph import Run
from minilm_lab.runs.identity import slug
from minilm_lab.training.evaluation import Evaluation
from minilm_lab.training.loggers import answer_sweep
from minilm_lab.training.settings import How

SEED = None
"""Nothing is drawn: one run a cell."""
NOTHING = {"_target_": "minilm_lab.evaluation.base.NoEvaluator"}
TEXTS, TOKENS = 1500, 32.0
"""What an evaluation reads, about: it costs next to nothing."""


def plan(cfg: DictConfig) -> Run:
    """Check the config, read the evaluator's data and name the run; no model is loaded."""
    how = read_how(cfg)
    evaluator: Evaluator = config.section(cfg, "evaluator")
    if not evaluator.measures:
        raise LabError("evaluator=none measures nothing; choose one: evaluator=stsb, evaluator=knn, …")
    # A student that must be made first is not measured along the way.
    distillation = OmegaConf.merge(cfg)
    assert isinstance(distillation, DictConfig)
    OmegaConf.set_struct(distillation, False)
    distillation.evaluator = NOTHING
    source = source_of(distillation, read_how(distillation))
    if evaluator.takes != "task":  # a fine-tuned model's head is checked when it is opened
        evaluator.check(source.shape)
    what = {
        "source": source.identity,
        "evaluator": once(("evaluator", repr(evaluator), how.paths.hub), partial(_identity, evaluator, how)),
    }
    name = evaluator.primary
    names = {**source.names, "task": name}
    job = Evaluation(source.where, source.revision, source.origin, names, evaluator, how)
    return Run(
        "evaluate",
        slug(name, source.title),
        what,
        job,
        lambda: cost.of_texts(source.shape, [(TEXTS, 1, TOKENS)]),
        () if source.run is None else (source.run,),
    )


def plan_seeds(cfg: DictConfig, seeds: Sequence[int]) -> list[Run]:
    """The one run of a cell, however many seeds a fine-tuning has."""
    return [plan(cfg)]


def _identity(evaluator: Evaluator, how: How) -> dict[str, object]:
    evaluator.prepare(how.paths.hub, how.cache)
    return {"kind": type(evaluator).__name__, **evaluator.identity()}


def run(cfg: DictConfig) -> float:
    """Entry point for Hydra; returns the score, for sweepers that maximise."""
    planned = plan(cfg)
    known = planned.done
    record = planned.make()
    if known:
        answer_sweep("score", float(record["score"]["value"]))
    scores = ", ".join(f"{name} {value:.2f}" for name, value in record["scores"].items())
    note = f" ({record['data_note']})" if record["data_note"] else ""
    print(f"{scores}{note}{' (from its record)' if known else ''}")
    print(f"record: {planned.folder.path / 'result.json'}")
    return float(record["score"]["value"])
