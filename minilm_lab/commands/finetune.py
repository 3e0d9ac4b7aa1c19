"""`minilm-lab finetune`: score a student (made first if need be), the teacher, or any checkpoint on a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from minilm_lab import config
from minilm_lab.commands.parts import read_how, scale_of
from minilm_lab.commands.source import Source, named_source, source_of
from minilm_lab.errors import LabError
from minilm_lab.models import cost
from minilm_lab.models.adapters import Adapter, import_peft
from minilm_lab.models.families import positions_of
from minilm_lab.models.saving import add_score
from minilm_lab.once import once
from minilm_lab.runs.graph import Run
from minilm_lab.runs.identity import slug
from minilm_lab.tasks.base import Task
from minilm_lab.tasks.remembered import data_of
from minilm_lab.training.finetuning import Finetuning
from minilm_lab.training.loggers import answer_sweep
from minilm_lab.training.settings import Tune, micro_batch

SEED = "tune.seed"
"""What tells the seeds of a cell apart."""
ONE_LABEL = ("classification", "regression")
SCORED = (*ONE_LABEL, "token_classification", "span", "instructions")
"""Kinds of tasks that take a head on pooled tokens, and those that a teacher can teach."""


def plan(cfg: DictConfig) -> Run:
    """Check the config, read the task's data and name the runs; no model is loaded."""
    tune: Tune = config.section(cfg, "tune")
    return plan_seeds(cfg, [tune.seed])[0]


def plan_seeds(cfg: DictConfig, seeds: Sequence[int]) -> list[Run]:
    """The same for each of several seeds in place of tune.seed, all read and checked once."""
    how = read_how(cfg)
    task: Task = config.section(cfg, "task")
    tune: Tune = config.section(cfg, "tune")
    adapter: Adapter = config.section(cfg, "adapter")
    of_teacher = replace(adapter, kind=tune.teacher_adapter or adapter.kind)
    if "lora" in (adapter.kind, of_teacher.kind if tune.teacher else "none"):
        import_peft()
    scale = scale_of(cfg)
    _check_recipe(task, tune)
    micro_batch(tune.batch_size, how.trainer, "tune.batch_size")
    source = source_of(cfg, how)
    teacher = None if tune.teacher is None else named_source(cfg, how, tune.teacher, "tune.teacher")
    limit = positions_of(source.config)
    if task.length > limit:
        raise LabError(
            f"task.length={task.length} is beyond the {limit} positions of {source.named}; give {limit} or less"
        )
    data = once(("task", repr(task), how.paths.hub), lambda: data_of(task, how.paths.hub, how.cache))
    shared = {
        "task": {**task.identity(), "fingerprint": data.fingerprint},
        "epochs": scale.epochs,
    }

    def planned(
        source: Source, tune: Tune, adapter: Adapter, teacher: Run | None = None, name: str | None = None
    ) -> Run:
        asked = {**how.asked, "tune": {**how.asked["tune"], **config.plain(tune)}}
        if name is not None:
            asked["source"] = name
            asked["adapter"] = {**how.asked["adapter"], "kind": adapter.kind}
        taught = {} if teacher is None else {"teacher": {"run": teacher.identity}}
        job = Finetuning(
            source.where,
            source.revision,
            source.origin,
            source.names,
            task,
            data,
            tune,
            scale.epochs,
            replace(how, asked=asked),
            None if teacher is None else teacher.folder.path / "model",
            adapter,
        )
        return Run(
            "finetune",
            slug(task.name, source.title, f"s{tune.seed}"),
            {
                **shared,
                **({"adapter": settings} if (settings := adapter.identity()) else {}),
                "source": source.identity,
                "tune": {**tune.identity(), **taught},
                "seed": tune.seed,
            },
            job,
            partial(_operations, source, data.sizes, scale.epochs * (1 + tune.augment)),
            tuple(needed for needed in (source.run, teacher) if needed is not None),
            None if source.run is None else partial(_note_score, source.where, job),
        )

    runs = []
    for seed in seeds:
        seeded = replace(tune, seed=seed)
        first = None
        if teacher is not None:
            own = replace(
                seeded,
                teacher=None,
                save_model=True,
                augment=0,
                lr=tune.teacher_lr or tune.lr,
                teacher_lr=None,
                teacher_adapter=None,
            )
            first = planned(teacher, own, of_teacher, name=tune.teacher)
        runs.append(planned(source, seeded, adapter, first))
    return runs


def _check_recipe(task: Task, tune: Tune) -> None:
    """LabError where the task cannot be learned in this way."""
    if (tune.pooling, tune.pairs) != ("cls", "cross") and task.kind not in ONE_LABEL:
        raise LabError(
            f"tune.pooling and tune.pairs are for one label a text or pair ({', '.join(ONE_LABEL)}); task={task.name} is "
            f"of kind {task.kind}: leave them out"
        )
    if tune.augment and task.kind not in ONE_LABEL:
        raise LabError(
            f"tune.augment is for one label a text or pair ({', '.join(ONE_LABEL)}), whose words have no labels of their own; "
            f"task={task.name} is of kind {task.kind}: leave it out"
        )
    if tune.teacher is not None and task.kind not in SCORED:
        raise LabError(
            f"tune.teacher teaches {', '.join(SCORED)}; task={task.name} is of kind {task.kind}: leave it out"
        )


def _operations(source: Source, sizes: Sequence[tuple[int, float]], epochs: int) -> float:
    times = [cost.TRAINING * epochs, *[1] * (len(sizes) - 1)]
    return cost.of_texts(source.shape, [(n, t, tokens) for t, (n, tokens) in zip(times, sizes, strict=True)])


def _note_score(student: str, job: Finetuning, record: dict[str, Any]) -> None:
    """Write the scores into the student's card."""
    note = record["data_note"] or "full"
    for metric, value in record["scores"].items():
        add_score(Path(student), (job.task.name, metric, f"{value:.1f}", job.tune.seed, note))


def run(cfg: DictConfig) -> float:
    """Entry point for Hydra; returns the score, for sweepers that maximise."""
    planned = plan(cfg)
    known = planned.done
    record = planned.make()
    if known:
        answer_sweep("score", float(record["score"]["value"]))
    scores = ", ".join(f"{name} {value:.2f}" for name, value in record["scores"].items())
    note = f" ({record['data_note']})" if record["data_note"] else ""
    print(f"{record['names']['task']}: {scores}{note}")
    print(f"record: {planned.folder.path / 'result.json'}")
    return float(record["score"]["value"])
