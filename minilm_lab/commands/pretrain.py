"""`minilm-lab pretrain head=mlm`: give a teacher the masked-LM head that its checkpoint lacks, as a run of its own."""

from __future__ import annotations

import dataclasses
from functools import partial

from omegaconf import DictConfig

from minilm_lab import config
from minilm_lab.commands.parts import check_length, corpus_identity, read_how, read_seed, scale_of
from minilm_lab.errors import LabError
from minilm_lab.models import cost
from minilm_lab.models.families import positions_of
from minilm_lab.models.teacher import Teacher
from minilm_lab.runs.graph import Run
from minilm_lab.runs.identity import slug
from minilm_lab.training.head_training import HeadTraining
from minilm_lab.training.settings import Head, micro_batch


def plan(cfg: DictConfig) -> Run:
    """Check the config and name the run; no model is loaded."""
    how = read_how(cfg)
    teacher: Teacher = config.section(cfg, "teacher")
    head: Head = config.section(cfg, "head")
    corpus = config.section(cfg, "corpus")
    scale, seed = scale_of(cfg), read_seed(cfg)
    scale = dataclasses.replace(scale, steps=head.steps or scale.steps)
    if not head.train:
        raise LabError("head.train=false: there is nothing to train; choose head=mlm")
    micro_batch(scale.batch_size, how.trainer, "scale.batch_size")
    model = teacher.config(how.cache)
    check_length(scale, teacher, positions_of(model))
    what = {
        "teacher": {k: v for k, v in teacher.identity(how.cache).items() if k != "layer"},
        "head": {
            "kind": "mlm",
            "lr": head.lr,
            "warmup": head.warmup,
            "mask_probability": head.mask_probability,
        },
        "corpus": corpus_identity(corpus, how),
        "scale": {n: getattr(scale, n) for n in ("steps", "batch_size", "length")},
        "seed": seed,
    }
    return Run(
        "pretrain",
        slug(teacher.name, "mlm-head", corpus.name, scale.name),
        what,
        HeadTraining(teacher, head, corpus, scale, seed, how),
        partial(cost.of_blocks, model, scale.steps * scale.batch_size, scale.length),
    )


def run(cfg: DictConfig) -> float:
    """Entry point for Hydra; returns the held-out perplexity, for sweepers that minimise."""
    planned = plan(cfg)
    known = " (from its record)" if planned.done else ""
    perplexity = planned.make()["held_out_perplexity"]
    print(
        f"held-out perplexity of masked tokens {perplexity['first']:,.0f} -> {perplexity['last']:,.1f}{known}"
    )
    print(f"teacher with its head: {planned.folder.path / 'model'}")
    return float(perplexity["last"])
