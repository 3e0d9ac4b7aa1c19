"""`minilm-lab dashboard`: save a W&B workspace with the panels for comparing students, or its specification."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig

from minilm_lab.errors import LabError
from minilm_lab.reports.dashboard import specification, workspace
from minilm_lab.runs import wandb_access
from minilm_lab.runs.files import write_json

NOBODY = "entity"
"""Stands for the entity in a specification that is made without a login."""


def run(cfg: DictConfig) -> None:
    """Entry point for Hydra."""
    offline = not wandb_access.logged_in() or os.environ.get("WANDB_MODE") in ("offline", "disabled")
    if cfg.dry or offline:
        file = Path(cfg.out) if cfg.out else Path(cfg.paths.runs) / "dashboard.json"
        write_json(file, specification(workspace(cfg.entity or NOBODY, cfg.project, cfg.title)))
        why = (
            "dry=true"
            if cfg.dry
            else "not logged in to W&B (`wandb login`, then the same command saves it there)"
        )
        print(f"{why}: the workspace's specification is in {file.resolve()}")
        return
    import wandb

    try:
        built = workspace(str(cfg.entity or wandb.Api().default_entity), cfg.project, cfg.title)
        built.save()
    except (wandb.errors.Error, ValueError, OSError) as error:
        raise LabError(f"W&B did not save the workspace of project {cfg.project}: {error}") from error
    print(f"workspace: {built.url}")
