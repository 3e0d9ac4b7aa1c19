"""The model that a command starts from: a student (made first if need be), the teacher, or any checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from transformers import PretrainedConfig

from minilm_lab import config
from minilm_lab.commands import distill
from minilm_lab.models import sources
from minilm_lab.models.resolve import resolve
from minilm_lab.models.teacher import Teacher
from minilm_lab.once import once
from minilm_lab.runs.graph import Run
from minilm_lab.training.settings import How

OWN = ("task", "tune", "adapter", "source")
"""Groups and settings that a student's distillation does not read."""


@dataclass(frozen=True)
class Source:
    """Which model it is; nothing is loaded."""

    where: str
    """Folder or hub id."""
    revision: str | None
    """Of the hub."""
    identity: dict[str, Any]
    """What of it decides a result."""
    origin: dict[str, Any]
    """For the record: {"kind": "teacher" | "run" | "path", "run": identity or None, "config"}."""
    names: dict[str, str]
    """Short names of its parts."""
    title: str
    """For the names of runs."""
    named: str
    """As the user knows it."""
    config: PretrainedConfig
    """That of the model; of a student's teacher, where it is a student."""
    run: Run | None = None
    """The distillation that makes it."""

    @cached_property
    def shape(self) -> PretrainedConfig:
        """The configuration of the model itself, also of a student that is not there yet."""
        return self.config if self.run is None else self.run.job.student.config(self.config)


def source_of(cfg: DictConfig, how: How) -> Source:
    """The model that `source` names, or the student of the distillation in `cfg`; LabError if there is none."""
    return named_source(cfg, how, cfg.get("source"))


def named_source(cfg: DictConfig, how: How, source: str | None, key: str = "source") -> Source:
    """The model of this name, which the setting `key` gives; None: the student."""
    if source is None:
        return once(("student", _settings_of(cfg, how)), lambda: _student(distill.plan(cfg)))
    if source == "teacher":
        teacher: Teacher = config.section(cfg, "teacher")
        return once(("teacher", repr(teacher)), lambda: _teacher(teacher, how.cache))
    return once(("source", str(source)), lambda: _elsewhere(str(source), how, key))


def _settings_of(cfg: DictConfig, how: How) -> str:
    """All of a composed config that a distillation reads, and how it is done, as text."""

    def text(config: Mapping[str, Any]) -> str:
        parts = {name: group for name, group in config.items() if name not in OWN}
        scale = {name: value for name, value in parts["scale"].items() if name not in ("epochs", "seeds")}
        return json.dumps({**parts, "scale": scale}, sort_keys=True)

    written = text(how.asked)
    if "${" not in written:
        return written
    resolved = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(resolved, dict)
    return text({str(name): group for name, group in resolved.items()})


def _student(run: Run) -> Source:
    teacher: Teacher = run.job.teacher
    return Source(
        str(run.folder.path / "student"),
        None,
        {"run": run.identity},
        {"kind": "run", "run": run.identity, "config": run.what},
        run.job.names(),
        run.name,
        teacher.name,
        teacher.config(run.job.how.cache),
        run,
    )


def _teacher(teacher: Teacher, cache: Path) -> Source:
    model = teacher.config(cache)
    key = {"teacher": {k: v for k, v in teacher.identity(cache).items() if k != "layer"}}
    origin = {"kind": "teacher", "run": None, "config": key}
    where, names = teacher.locate(cache), {"teacher": teacher.name}
    return Source(where, teacher.revision, key, origin, names, f"{teacher.name}-teacher", teacher.name, model)


def _elsewhere(source: str, how: How, key: str) -> Source:
    model = resolve(source, runs=how.runs, cache=how.cache, key=key)
    names = (model.record or {}).get("names") or {"source": source}
    return Source(
        model.where,
        model.revision,
        model.identity,
        model.origin,
        names,
        Path(model.title).name,
        source,
        sources.load_config(model.where, model.revision, key),
    )
