"""`minilm-lab pretrain head=mlm`: give a teacher the masked-LM head that its checkpoint lacks, as a run of its own."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from minilm_lab import config
from minilm_lab.commands.parts import check_length, corpus_identity, read_how, read_seed, scale_of
from minilm_lab.errors import LabError
from minilm_lab.models.families import positions_of
from minilm_lab.models.teacher import Teacher
from minilm_lab.runs.folder import RunFolder, execute
from minilm_lab.runs.identity import identity_of, slug
from minilm_lab.training.fit import micro_batch
from minilm_lab.training.head_training import HeadTraining
from minilm_lab.training.settings import Head


@dataclass(frozen=True)
class PretrainPlan:
    """A checked training of a head and the run that keeps it; no model is loaded yet."""

    job: HeadTraining
    what: dict[str, Any]
    folder: RunFolder

    @property
    def product(self) -> Path:
        """Folder of the teacher with its head."""
        return self.folder.path / "model"

    def make(self) -> dict[str, Any]:
        """Return the record of the run, training first if there is none."""
        return execute(self.folder, self.what, self.job.how.plain(), self.job.train)


def plan(cfg: DictConfig) -> PretrainPlan:
    """Check the config and name the run."""
    how = read_how(cfg)
    teacher: Teacher = config.section(cfg, "teacher")
    head: Head = config.section(cfg, "head")
    corpus = config.section(cfg, "corpus")
    scale, seed = scale_of(cfg), read_seed(cfg)
    scale = dataclasses.replace(scale, steps=head.steps or scale.steps)
    if not head.train:
        raise LabError("head.train=false: there is nothing to train; choose head=mlm")
    micro_batch(scale.batch_size, how.trainer, "scale.batch_size")
    check_length(scale, teacher, positions_of(teacher.config(how.cache)))
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
    name = slug(teacher.name, "mlm-head", corpus.name, scale.name)
    folder = RunFolder(how.runs, "pretrain", name, identity_of("pretrain", what))
    return PretrainPlan(HeadTraining(teacher, head, corpus, scale, seed, how), what, folder)


def run(cfg: DictConfig) -> float:
    """Entry point for Hydra; returns the held-out perplexity, for sweepers that minimise."""
    ready = plan(cfg)
    known = " (from its record)" if ready.folder.result() is not None else ""
    record = ready.make()
    perplexity = record["held_out_perplexity"]
    print(
        f"held-out perplexity of masked tokens {perplexity['first']:,.0f} -> {perplexity['last']:,.1f}{known}"
    )
    print(f"teacher with its head: {ready.product}")
    return float(perplexity["last"])
