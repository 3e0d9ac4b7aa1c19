"""`minilm-lab halve`: half the layers of a sentence encoder, measured, as a folder for sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from minilm_lab import config
from minilm_lab.commands import distill
from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.evaluate import NOTHING
from minilm_lab.errors import LabError
from minilm_lab.evaluation.base import Evaluator
from minilm_lab.exporting.facts import divisors
from minilm_lab.exporting.folder import check_target
from minilm_lab.exporting.job import prepare
from minilm_lab.exporting.request import Request
from minilm_lab.models.pooling import Pooling, read_pooling
from minilm_lab.models.resolve import Model, resolve
from minilm_lab.models.sources import load_config
from minilm_lab.runs.graph import Run
from minilm_lab.training.settings import Paths

OWN = ("source", "out", "overwrite")
"""Settings that a distillation does not have."""
NONE = {"_target_": "minilm_lab.objectives.none.NoObjective"}


def run(cfg: DictConfig) -> float:
    """Entry point for Hydra; returns the agreement of the student's vectors with the encoder's (0 to 100)."""
    paths: Paths = config.section(cfg, "paths")
    for name in ("source", "out"):
        if OmegaConf.is_missing(cfg, name):
            raise LabError(f"{name} must be given: minilm-lab halve source=all_minilm_l6 out=small")
    runs, cache = Path(paths.runs).expanduser(), Path(paths.cache).expanduser()
    encoder = resolve(str(cfg.source), runs=runs, cache=cache, key="source")
    out = Path(str(cfg.out)).expanduser()
    check_target(out, bool(cfg.overwrite), encoder.folder)
    pooling = read_pooling(encoder.where, encoder.revision) or Pooling()
    if len(pooling.modes) > 1:
        raise LabError(
            f"source={cfg.source} joins several poolings ({', '.join(pooling.modes)}); halve copies one"
        )
    student, control = (_plan(cfg, encoder, pooling, trained=trained) for trained in (True, False))
    evaluators = _evaluators(paths, encoder)
    for planned in (control, student):
        planned.make()
    model = resolve(student.identity, runs=runs, cache=cache, key="run")
    places = {
        "the encoder": (encoder.where, encoder.revision),
        "half of its layers, as they are": (str(control.folder.path / "student"), None),
        "distilled": (model.where, None),
    }
    scores = {name: _measure(evaluators, place, pooling) for name, place in places.items()}
    request = Request(student.identity, str(out), ["sentence_transformers"], overwrite=bool(cfg.overwrite))
    task = config.section(compose_command("export", ["run=none", "out=none"]), "task")
    table = _table(scores)
    prepare(
        request, model, task, paths.hub, cache, modules=encoder, section=f"## What it keeps\n\n{table}"
    ).write()
    print(f"{table}\nfolder: {out.resolve()}")
    return scores["distilled"]["agreement"]


def _plan(cfg: DictConfig, encoder: Model, pooling: Pooling, *, trained: bool) -> Run:
    """The distillation, or the same student without it."""
    words: Any = OmegaConf.to_container(cfg, resolve=False)
    composed = {name: value for name, value in words.items() if name not in OWN}
    place: dict[str, Any] = {"path": encoder.where}
    if encoder.package is not None:
        place = {"path": None, "package": encoder.package}
    elif encoder.folder is None:
        place = {"path": None, "hub": encoder.where, "revision": encoder.revision}
    composed["teacher"] |= {"name": Path(encoder.title).name, **place}
    if trained:
        terms = composed["objective"]["terms"]
        terms["embedding"]["pooling"] = pooling.modes[0]
        width = int(load_config(encoder.where, encoder.revision, "source").hidden_size)
        wanted = terms["minilmv2"]["heads"]
        terms["minilmv2"]["heads"] = min(divisors(width), key=lambda heads: abs(heads - wanted))
    else:
        composed |= {"objective": NONE, "evaluator": NOTHING}
    return distill.plan(OmegaConf.create(composed))


def _evaluators(paths: Paths, encoder: Model) -> list[Evaluator]:
    """What needs no data hub, and STS-B where `paths.hub` has it; their data is read."""
    where = f"{encoder.where}@{encoder.revision}" if encoder.revision else encoder.where
    choices = [["evaluator=agreement", f"evaluator.against={where}"], ["evaluator=knn"]]
    if paths.hub is not None and (Path(paths.hub).expanduser() / "nyu-mll" / "glue").is_dir():
        choices.append(["evaluator=stsb"])
    evaluators = []
    for words in choices:
        evaluator: Evaluator = config.section(compose_command("evaluate", words), "evaluator")
        evaluator.prepare(paths.hub, Path(paths.cache).expanduser())
        evaluators.append(evaluator)
    return evaluators


def _measure(
    evaluators: list[Evaluator], place: tuple[str, str | None], pooling: Pooling
) -> dict[str, float]:
    scores: dict[str, float] = {}
    for evaluator in evaluators:
        model = evaluator.open(*place)
        model.pooling = pooling  # a student's folder does not say how its teacher's vectors are made
        scores |= evaluator(model).scores
    return scores


def _table(scores: dict[str, dict[str, float]]) -> str:
    """Markdown: a line a score, a column a model, and what is kept of the encoder's."""
    names = list(scores)
    lines = [["", *names, "kept"]]
    for score in scores[names[0]]:
        whole, *_, last = values = [scores[name][score] for name in names]
        lines.append([score, *(f"{value:.1f}" for value in values), f"{100 * last / whole:.1f} %"])
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|---" + "|---:" * (len(names) + 1) + "|", *body])
