"""The runs behind the cells of a table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from minilm_lab.commands import distill as distilling
from minilm_lab.commands import finetune as finetuning
from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.tables.spec import ColumnSpec, RowSpec, TableSpec
from minilm_lab.errors import LabError
from minilm_lab.runs.folder import RunFolder
from minilm_lab.tasks.base import Splits


@dataclass(frozen=True)
class Setting:
    """One way to fine-tune for a cell, one run a seed."""

    overrides: list[str]
    """What the table's `choose` sets; empty where nothing is chosen."""
    plans: list[finetuning.FinetunePlan]

    @property
    def words(self) -> str:
        """The overrides in one line."""
        return " ".join(self.overrides)


@dataclass(frozen=True)
class CellPlan:
    """The runs behind one cell."""

    row: RowSpec
    column: ColumnSpec
    settings: list[Setting]
    """Those that the cell is chosen of; all fine-tune the same model."""
    words: list[str]
    """The overrides of `finetune` that make the cell, without those of a setting and the seed."""

    @property
    def first(self) -> finetuning.FinetunePlan:
        """The first seed of the first setting, which tells the model."""
        return self.settings[0].plans[0]


@dataclass(frozen=True)
class Job:
    """One run that a table needs, its overrides for another process, and how to do it in this one."""

    folder: RunFolder
    words: list[str]
    make: Callable[[], Any]
    plan: Any
    """A DistillPlan, PretrainPlan or FinetunePlan."""
    student: RunFolder | None = None
    """The distillation that must be done first."""


def plan(spec: TableSpec, words: Sequence[str], seeds: int) -> list[CellPlan]:
    """Plan every run of the table; all of it is checked before the first one starts.

    words: the overrides of every run (`TableSpec.words`); those of rows and columns come after them.
    """
    planned = []
    known: dict[str, tuple[Splits, str]] = {}
    for row in spec.rows:
        for column in spec.columns:
            own = cell_words(words, row, column)
            try:
                settings = [
                    Setting(
                        chosen,
                        finetuning.plan_seeds(
                            compose_command("finetune", [*own, *chosen]), range(seeds), known
                        ),
                    )
                    for chosen in settings_of(
                        column.choose if spec.choose and column.choose is not None else spec.choose
                    )
                ]
            except LabError as error:
                raise LabError(f"row {row.key}, column {column.key}: {error}") from error
            named = replace(row, title=_title(row.title, settings[0].plans[0]))
            planned.append(CellPlan(named, column, settings, own))
    return planned


def settings_of(choose: Mapping[str, Sequence[Any]]) -> list[list[str]]:
    """Overrides of every combination, in the order of the grid; one without overrides where nothing is chosen."""
    axes = [[f"{key}={value}" for value in values] for key, values in choose.items()]
    return [list(combination) for combination in itertools.product(*axes)]


def cell_words(words: Sequence[str], row: RowSpec, column: ColumnSpec) -> list[str]:
    """The overrides of a cell. Settings of the objective do not reach a row that has none."""
    own = [*words, *row.overrides, *column.overrides]
    objectives = [word for word in own if word.startswith("objective=")]
    if objectives and objectives[-1] == "objective=none":
        own = [word for word in own if not word.lstrip("+~").startswith("objective.")]
    return own


def _title(title: str, ready: finetuning.FinetunePlan) -> str:
    student = ready.distillation.what["student"] if ready.distillation else {}
    shape = f"{student['layers']} × {student['hidden_size']}" if student else ""
    return title.replace("{shape}", shape).replace("{teacher}", ready.job.names.get("teacher", ""))


def preparations(planned: Sequence[CellPlan]) -> list[list[Job]]:
    """The runs that students need, stage by stage: assistants and heads before what is distilled with them."""
    stages: list[dict[str, Job]] = []
    for cell in planned:
        ready = cell.first.distillation
        for level, step in enumerate(distilling.steps(ready) if ready else []):
            if level == len(stages):
                stages.append({})
            job = Job(step.folder, cell.words, step.make, step.plan)
            stages[level].setdefault(step.folder.identity, job)
    return [list(stage.values()) for stage in stages]


def finetunings(planned: Sequence[CellPlan]) -> list[Job]:
    """The fine-tunings, one seed of the whole table first: stopped half-way, it can be rendered with fewer seeds."""
    jobs: dict[str, Job] = {}
    for cell, setting, ready in _by_seed(planned):
        words = [*cell.words, *setting.overrides, f"tune.seed={ready.job.tune.seed}"]
        student = ready.distillation.folder if ready.distillation else None

        def make(ready: finetuning.FinetunePlan = ready) -> Any:
            return finetuning.finetune(ready)

        jobs.setdefault(ready.folder.identity, Job(ready.folder, words, make, ready, student))
    return list(jobs.values())


def _by_seed(planned: Sequence[CellPlan]) -> Iterator[tuple[CellPlan, Setting, finetuning.FinetunePlan]]:
    for index in range(len(planned[0].settings[0].plans) if planned else 0):
        for cell in planned:
            for setting in cell.settings:
                yield cell, setting, setting.plans[index]
