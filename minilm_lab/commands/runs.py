"""`minilm-lab runs`: what there is."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig


def run(cfg: DictConfig) -> None:
    """Entry point for Hydra."""
    from minilm_lab.reports import listing

    listing.show(Path(cfg.paths.runs), cfg)
