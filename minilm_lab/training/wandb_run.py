"""One run of Weights & Biases: how it is opened, what its summary and its artifacts are, how it ends."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning.loggers import WandbLogger

from minilm_lab.errors import first_line
from minilm_lab.runs import wandb_access
from minilm_lab.runs.environment import describe
from minilm_lab.runs.facets import facets, flatten
from minilm_lab.runs.identity import slug

log = logging.getLogger(__name__)

DIRECTIONS = {
    "loss": "min,last",
    "loss/*": "min,last",
    "held_out_loss": "min,last",
    "dev/*": "max,last",
    "test/*": "max,last",
    "evaluation/*": "max,last",
}
"""Metric -> what of its history W&B keeps in the summary, by which runs are sorted: the best and the last."""
RECORD = "record"
"""Summary key of the whole record, as JSON text: one column, and nothing that a dashboard would plot by mistake."""
_STEP = "trainer/global_step"
_LONGEST_TAG = 64


class MirrorLogger(WandbLogger):
    """Lightning's logger, with the direction of each metric and without a setting that W&B warns of."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(**{key: value for key, value in settings.items() if key != "about"})
        self._wandb_init.pop("anonymous", None)
        self.about: dict[str, Any] = dict(settings["about"])
        self.where: dict[str, Any] = {}
        """Versions, commit and hardware as the run began."""

        self._directed: set[str] = set()

    @property
    def experiment(self) -> Any:
        """The W&B run, opened at the first use."""
        run = self._open()
        if not self.where and self._experiment is not None and not run.disabled:
            self.where = describe()
        return run

    def _open(self) -> Any:
        """The run; offline where the server cannot be reached: what mirrors a training must not end it."""
        import wandb

        try:
            return super().experiment
        except wandb.errors.CommError as error:
            log.warning(
                "W&B cannot be reached (%s): this run is kept offline; `minilm-lab sync` uploads it",
                first_line(error),
            )
            self._wandb_init["mode"] = "offline"
            self._offline = True
            return super().experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Mirror a line of the journal."""
        # By their own names: of several patterns that fit, W&B takes any, and Lightning has defined "*".
        for name in metrics.keys() - self._directed:
            self._directed.add(name)
            if (direction := _direction(name)) is not None:
                self.experiment.define_metric(name, step_metric=_STEP, step_sync=True, summary=direction)
        super().log_metrics(metrics, step)


def is_aside(command: str) -> bool:
    """Whether this is not the run that a W&B sweep has asked for, but one that it needs (its student, an assistant).

    An agent's process has one W&B run, the sweep's own: what is made on the way is kept in its journal alone.
    """
    return bool(os.environ.get(wandb_access.SWEEP)) and command != sys.argv[0].rpartition(" ")[2]


def start(wandb: Any, folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what opens the run of `folder`. wandb: the logger's settings (project, entity, group, tags)."""
    mode = wandb_access.mode(folder.parent.parent)
    config = settings_of(folder, about)
    given = os.environ
    if "WANDB_DIR" in given:
        log.info(
            "WANDB_DIR is passed over: a run's W&B files lie in its folder, where `minilm-lab sync` finds them"
        )
    return {
        "project": wandb.project,
        "entity": wandb.entity,
        "id": about["identity"],
        "name": given.get("WANDB_NAME") or about["name"],
        "group": wandb.group or given.get("WANDB_RUN_GROUP") or about.get("experiment") or None,
        "job_type": about["command"],
        "tags": _tags(wandb.tags, about.get("experiment"), config),
        "save_dir": folder,
        "config": config,
        "about": about,
        **({"mode": mode} if mode else {}),
    }


def settings_of(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's settings, nested by group, from its config.yaml and from what its command says of it."""
    given = dict(about.get("config") or {})
    config = _config(folder)
    names = about.get("names") or {key: value for key, value in given.items() if isinstance(value, str)}
    settings = facets(config.get("what") or given, names, about.get("origin"))
    how = config.get("how") or {}
    settings["how"] = {part: how[part] for part in ("impl", "trainer") if part in how}
    return {"command": about["command"], "experiment": about.get("experiment") or None, **settings}


def _config(folder: Path) -> dict[str, Any]:
    """config.yaml of a run, if it is there."""
    file = folder / "config.yaml"
    return dict(yaml.safe_load(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _tags(tags: list[str], experiment: str | None, settings: Mapping[str, Any]) -> list[str]:
    groups = (settings.get(group) for group in ("teacher", "objective", "task"))
    names = [group.get("name") if isinstance(group, Mapping) else group for group in groups]
    return list(dict.fromkeys(tag[:_LONGEST_TAG] for tag in [*tags, experiment, *names] if tag))


def complete(
    logger: MirrorLogger,
    summary: Mapping[str, Any],
    made: tuple[str, Path] | None,
    used: str | None,
    record: Mapping[str, Any] | None,
) -> None:
    """Write the summary, the record and the artifacts of a run that is done."""
    run, folder = logger.experiment, Path(str(logger.save_dir))
    whole: dict[str, Any] = {}
    if record is not None:  # what result.json will hold, but for the time at which it is written
        head = {key: logger.about[key] for key in ("command", "identity", "name")}
        whole = {**head, "config": _config(folder).get("what") or {}, **record, **logger.where}
    # A metric with a direction keeps its {"min": …, "last": …}; its last value is the same.
    run.summary.update({key: value for key, value in summary.items() if key not in DIRECTIONS})
    # A resumed run's summary is of its last session alone: the journal has them all.
    run.summary.update(_extremes(folder / "metrics.jsonl"))
    run.summary.update(headline(whole))
    if made is not None:
        artifact = _artifact(f"student-{made[0]}", "student", summary)
        # "immutable": the files are read where they lie, not copied first.
        artifact.add_dir(str(made[1]), policy="immutable")
        run.log_artifact(artifact)
    if "score" in whole:
        name = f"score-{logger.about['identity']}"
        run.log_artifact(_artifact(name, "score", whole.get("scores", {}), record=whole))
    online = not run.offline and not run.disabled
    if used is not None:
        # Offline nothing can be looked up: the config says it, and `minilm-lab sync` links what it uploads.
        run.config.update({"lineage": {"uses": f"student-{used}"}}, allow_val_change=True)
        if online:
            _use(run, f"student-{used}")
    elif online:
        _use_teacher(run)


def _direction(name: str) -> str | None:
    return next((told for pattern, told in DIRECTIONS.items() if fnmatchcase(name, pattern)), None)


def _extremes(journal: Path) -> dict[str, dict[str, float]]:
    """The best and the last value of each metric with a direction, from metrics.jsonl."""
    values: dict[str, list[float]] = {}
    for text in journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else ():
        for name, value in flatten(json.loads(text), separator="/").items():
            if _direction(name) is not None and isinstance(value, (int, float)):
                values.setdefault(name, []).append(value)
    extremes = {}
    for name, series in values.items():
        kind = str(_direction(name)).partition(",")[0]
        extremes[name] = {kind: min(series) if kind == "min" else max(series), "last": series[-1]}
    return extremes


def headline(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a record a dashboard sorts by and plots, and the record itself as text."""
    if not record:
        return {}
    sizes = ("parameters", "layers", "hidden_size", "tokens_seen", "held_out_perplexity", "ratio")
    values = {RECORD: json.dumps(record, ensure_ascii=False)}
    values |= {key: record[key] for key in sizes if key in record}
    score = record.get("score")
    if isinstance(score, Mapping):
        values |= {"score": score["value"], "score_name": score["name"]}
        values |= {f"score/{name}": value for name, value in record.get("scores", {}).items()}
    return values


def _artifact(name: str, kind: str, metadata: Mapping[str, Any], **files: Mapping[str, Any]) -> Any:
    """An artifact with a JSON file for each of `files`."""
    import wandb

    artifact = wandb.Artifact(name, type=kind, metadata=dict(metadata))
    for stem, content in files.items():
        with artifact.new_file(f"{stem}.json", mode="w", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=2, ensure_ascii=False))
    return artifact


def _use_teacher(run: Any) -> None:
    """Begin the lineage with what the teacher is: its name and source, not its weights."""
    teacher = run.config.get("teacher")
    if isinstance(teacher, Mapping) and "name" in teacher:
        known = {key: teacher[key] for key in sorted(teacher) if key != "layer"}
        run.use_artifact(_artifact(slug("teacher", known["name"]), "teacher", known, teacher=known))


def _use(run: Any, name: str) -> None:
    import wandb

    try:
        run.use_artifact(f"{name}:latest")
    except (wandb.errors.CommError, ValueError) as error:
        log.warning("W&B does not have %s yet (%s): no lineage is shown", name, error)
