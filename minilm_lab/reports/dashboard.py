"""The W&B workspace in which a researcher compares students: its panels, as a specification."""

from __future__ import annotations

import warnings
from typing import Any

from minilm_lab.errors import LabError

AXES = (
    ("config", "student.layers", "depth"),
    ("config", "student.hidden_size", "width"),
    ("config", "teacher.layer", "teacher layer"),
    ("config", "objective.relations", "relations"),
    ("config", "objective.heads", "relation heads"),
    ("summary", "score", "score"),
)
"""Setting or metric, heading: the axes of the parallel coordinates, from what is chosen to what comes out."""
_STEP = "trainer/global_step"


def workspace(entity: str, project: str, name: str) -> Any:
    """Return the workspace; `save()` puts it into W&B, `specification` into a file.

    Args:
        entity: user or team.
        project: the project of all runs.
        name: title of the saved view.

    Raises:
        LabError: wandb-workspaces is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import wandb_workspaces.reports.v2 as wr
            import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise LabError(
            "minilm-lab dashboard needs the package wandb-workspaces: pip install 'minilm-lab[dashboard]'"
        ) from error

    def axis(kind: str, key: str) -> Any:
        return wr.Config(key) if kind == "config" else wr.SummaryMetric(key)

    def bars(title: str, by: str) -> Any:
        return wr.BarPlot(
            title=title,
            metrics=[wr.SummaryMetric("score")],
            groupby=wr.Config(by),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            orientation="v",
        )

    def lines(title: str, *metrics: str, **more: Any) -> Any:
        return wr.LinePlot(title=title, x=_STEP, y=list(metrics), **more)

    score, size = wr.SummaryMetric("score"), wr.SummaryMetric("parameters.total")
    compared = ws.Section(
        name="What survives",
        is_open=True,
        layout_settings=ws.SectionLayoutSettings(columns=2, rows=3),
        panels=[
            wr.ParallelCoordinatesPlot(
                title="Depth, width, layer, relations → score",
                columns=[
                    wr.ParallelCoordinatesPlotColumn(axis(kind, key), display_name=heading)
                    for kind, key, heading in AXES
                ],
            ),
            wr.ScatterPlot(title="Score against parameters", x=size, y=score, log_x=True),
            bars("Score by objective (mean ± sd)", "objective.name"),
            bars("Score by task (mean ± sd)", "task.name"),
            bars("Score by student (mean ± sd)", "student.name"),
            wr.ParameterImportancePlot(with_respect_to="score"),
        ],
    )
    distilling = ws.Section(
        name="Distillation",
        is_open=True,
        layout_settings=ws.SectionLayoutSettings(columns=2, rows=2),
        panels=[
            lines("Training loss", "loss", log_y=True, smoothing_factor=0.6),
            lines("Held-out loss", "held_out_loss", log_y=True),
            lines(
                "Held-out loss, by objective",
                "held_out_loss",
                groupby="objective.name",
                groupby_aggfunc="mean",
            ),
            lines("Tokens a second", "tokens_per_second"),
        ],
    )
    tables = ws.Section(
        name="Tables",
        layout_settings=ws.SectionLayoutSettings(columns=1, rows=2),
        panels=[wr.WeavePanelSummaryTable(table_name=key) for key in ("table", "cells")],
    )
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[compared, distilling, tables],
        settings=ws.WorkspaceSettings(x_axis=_STEP, max_runs=100),
        runset_settings=ws.RunsetSettings(order=[ws.Ordering(ws.Summary("score"), ascending=False)]),
    )


def specification(built: Any) -> dict[str, Any]:
    """Return the workspace as W&B stores it, as data for JSON."""
    model = built._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)
    assert isinstance(model, dict)
    return model
