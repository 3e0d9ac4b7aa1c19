"""`minilm-lab recommend`: who would come to a film that is only a text yet (the study of movies)."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from minilm_lab import config
from minilm_lab.commands.evaluate import NOTHING
from minilm_lab.commands.parts import read_how
from minilm_lab.commands.source import source_of
from minilm_lab.errors import LabError
from minilm_lab.studies.movies.audience import Audience, Question
from minilm_lab.studies.movies.new_releases import NewReleases


def run(cfg: DictConfig) -> float:
    """Entry point for Hydra; returns how many are expected to come."""
    how = read_how(cfg)
    evaluator = config.section(cfg, "evaluator")
    if not isinstance(evaluator, NewReleases):
        raise LabError("recommend answers with evaluator=new_releases; choose its data with evaluator.path.")
    top = cfg.top
    if not isinstance(top, int) or isinstance(top, bool) or top < 1:
        raise LabError(f"top={top} must be a whole number, 1 or more.")
    evaluator.read(how.paths.hub, how.cache)
    question = Question(str(cfg.text), [str(genre) for genre in cfg.genres or []])
    evaluator.check_question(question)  # before a student is made for it
    # A student that must be made first is not measured along the way.
    distillation = OmegaConf.merge(cfg)
    assert isinstance(distillation, DictConfig)
    OmegaConf.set_struct(distillation, False)
    distillation.evaluator = NOTHING
    source = source_of(distillation, read_how(distillation))
    if source.run is not None:
        source.run.make()
    audience = evaluator.recommend(evaluator.open(source.where, source.revision), question, top)
    print(told(audience))
    return audience.expected


def told(audience: Audience) -> str:
    """The answer as people read it."""
    parts = ", ".join(f"{value:.1f} {name}" for name, value in audience.by_tier.items())
    lines = [
        f"like: {', '.join(audience.like)}",
        f"expected: {audience.expected:.1f} of {audience.users} users ({parts})",
        "",
        "| user | chance | comes | near in their history |",
        "|---|---:|---|---|",
        *(
            f"| {guest.user} | {100 * guest.probability:.1f} % | {guest.tier} | {', '.join(guest.because)} |"
            for guest in audience.guests
        ),
    ]
    return "\n".join(lines)
