"""`minilm-lab runs`: the list of runs, newest first."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from minilm_lab.reports import listing
from minilm_lab.reports.records import load


def run(cfg: DictConfig) -> None:
    """Entry point for Hydra."""
    folder = Path(cfg.paths.runs)
    found = listing.list_runs(load(folder), command=cfg.command, state=cfg.state, contains=cfg.contains)
    if cfg.json:
        print(json.dumps(listing.to_data(found), indent=2))
    elif not found:
        print(f"no runs in {folder}; start one with `minilm-lab distill` or `make demo`")
    elif sys.stdout.isatty():
        Console().print(listing.to_rich(found))
    else:
        print(listing.to_text(found), end="")
