"""`minilm-lab table`: run what a table still misses, then render it from the records."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.launching import chosen
from minilm_lab.commands.tables import cost, executing, rendering, timing
from minilm_lab.commands.tables.planning import CellPlan, cell_runs, plan
from minilm_lab.commands.tables.spec import known_tables, read_spec
from minilm_lab.errors import LabError, nearest
from minilm_lab.once import read_once
from minilm_lab.reports import from_wandb, records
from minilm_lab.reports.records import Record
from minilm_lab.reports.renderers import print_table
from minilm_lab.reports.table import Table
from minilm_lab.reports.to_wandb import log_table
from minilm_lab.runs.graph import walk
from minilm_lab.training.loggers import Wandb
from minilm_lab.training.settings import How

log = logging.getLogger(__name__)

#: Overrides of this command that are not the runs'.
OWN = ("name", "dry", "render", "from", "choose", "out")
#: Where the records come from.
SOURCES = ("runs", "wandb")


def run(cfg: DictConfig) -> None:
    """Entry point for Hydra."""
    if OmegaConf.is_missing(cfg, "name"):
        raise LabError(f"name must be given, for example name=demo. There are: {', '.join(known_tables())}")
    words = [o for o in HydraConfig.get().overrides.task if o.split("=")[0].lstrip("+~") not in OWN]
    composed = compose_command("finetune", words)
    scale = composed.scale.name
    spec = read_spec(cfg.name).at_scale(scale)
    if cfg["from"] not in SOURCES:
        raise LabError(
            f"from={cfg['from']} is unknown.{nearest(str(cfg['from']), SOURCES)} There are: {', '.join(SOURCES)}"
        )
    if cfg.choose is not None:
        spec = spec.choosing(OmegaConf.to_container(cfg.choose, resolve=True))
    planned = plan(spec, words, composed.scale.seeds)
    if cfg.dry:
        _say_plan(planned)
        return
    how = planned[0].first.job.how
    failed: list[str] = []
    runs = how.runs
    if cfg["from"] == "wandb":
        if not isinstance(how.logger, Wandb):
            raise LabError("from=wandb asks the project of logger=wandb; leave out the other logger")
        runs = from_wandb.fetch(how.logger.project, how.runs / "from_wandb", how.logger.entity)
    elif not cfg.render:
        failed = executing.here(planned) if chosen() == "basic" else executing.launched(planned)
        timing.measure(cfg.name, planned)
    found = records.load(runs)
    made = rendering.build(spec, planned, found, scale, timing.recorded(cfg.name, planned, found))
    folder = _folder(cfg.name, scale, bool(spec.at))
    out = Path(cfg.out) if cfg.out else how.runs / "tables" / folder
    page = rendering.write(out, spec, made, planned, found)
    print_table(made)
    print(f"page: {page.resolve()}\nfiles: {out.resolve()}")
    if cfg["from"] == "runs":
        _mirror(cfg.name, folder, made, how, planned, found)
    if failed:
        raise LabError("some runs failed; the same command tries them again:\n  " + "\n  ".join(failed))


def _folder(name: str, scale: str, scaled: bool) -> str:
    return f"{name}-{scale}" if scaled else name


def _mirror(
    name: str, folder: str, made: Table, how: How, planned: Sequence[CellPlan], found: Sequence[Record]
) -> None:
    """The table as a run of W&B, where that is the logger; a mirror that fails loses nothing."""
    behind = {run.identity for run in cell_runs(planned)}
    own = [record for record in found if record.identity in behind]
    if not isinstance(how.logger, Wandb):
        return
    from wandb.errors import Error

    into = how.runs / "tables" / folder
    try:
        log_table(made, name=name, logger=how.logger, folder=into, experiment=how.experiment, records=own)
    except (LabError, OSError, Error) as error:
        log.warning("the table was not logged to W&B: %s", error)


def _say_plan(planned: Sequence[CellPlan]) -> None:
    with read_once():  # the names of the runs there are
        runs = walk(cell_runs(planned))
        records = {run.identity: run.folder.result() for run in runs}
        for run in runs:
            print(f"{'done' if records[run.identity] else 'to do':<6} {run.folder.path}")
    print(cost.describe(runs, records))
