"""`minilm-lab table`: run what a table still misses, then render it from the records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from minilm_lab.commands import speed
from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.launching import chosen
from minilm_lab.commands.tables import cost, executing, rendering
from minilm_lab.commands.tables.planning import CellPlan, finetunings, plan, preparations
from minilm_lab.commands.tables.spec import known_tables, read_spec
from minilm_lab.errors import LabError
from minilm_lab.reports import records
from minilm_lab.reports.renderers import print_table

#: Overrides of this command that are not the runs'.
OWN = ("name", "dry", "render", "out")


def with_table(words: Sequence[str]) -> list[str]:
    """Put the table's own overrides before the user's, so that these can change what its experiment chooses."""
    names = [word.removeprefix("name=") for word in words if word.startswith("name=")]
    return read_spec(names[-1]).words(words) if names else list(words)


def run(cfg: DictConfig) -> None:
    """Entry point for Hydra."""
    if OmegaConf.is_missing(cfg, "name"):
        raise LabError(f"name must be given, for example name=demo. There are: {', '.join(known_tables())}")
    words = [o for o in HydraConfig.get().overrides.task if o.split("=")[0].lstrip("+~") not in OWN]
    composed = compose_command("finetune", words)
    scale = composed.scale.name
    spec = read_spec(cfg.name).at_scale(scale)
    planned = plan(spec, words, composed.scale.seeds)
    if cfg.dry:
        _say_plan(planned)
        return
    failed: list[str] = []
    if not cfg.render:
        failed = executing.here(planned) if chosen() == "basic" else executing.launched(planned)
    runs = planned[0].plans[0].job.how.runs
    speed_run = _speed(cfg.name, planned)
    found = records.load(runs)
    made = rendering.build(spec, planned, found, scale, speed_run)
    out = Path(cfg.out) if cfg.out else runs / "tables" / _folder(cfg.name, scale, bool(spec.at))
    page = rendering.write(out, spec, made, planned, found)
    print_table(made)
    print(f"page: {page.resolve()}\nfiles: {out.resolve()}")
    if failed:
        raise LabError("some runs failed; the same command tries them again:\n  " + "\n  ".join(failed))


def _folder(name: str, scale: str, scaled: bool) -> str:
    return f"{name}-{scale}" if scaled else name


def _speed(name: str, planned: Sequence[CellPlan]) -> str | None:
    """The identity of the run that timed the rows' models; None until all of them are there."""
    teacher = next((cell.row.key for cell in planned if cell.row.teacher), None)
    first = {cell.row.key: cell.plans[0] for cell in reversed(planned)}
    students = [p.distillation.folder for p in first.values() if p.distillation is not None]
    if teacher is None or any(folder.result() is None for folder in students):
        return None
    sources = {key: ready.job.source for key, ready in first.items()}
    keys = {key: ready.what["source"] for key, ready in first.items()}
    return speed.measure(name, teacher, sources, keys, planned[0].plans[0].job.how).identity


def _say_plan(planned: Sequence[CellPlan]) -> None:
    jobs = [job for stage in preparations(planned) for job in stage] + finetunings(planned)
    for job in jobs:
        print(f"{'done' if job.folder.result() else 'to do':<6} {job.folder.path}")
    print(cost.describe(jobs))
