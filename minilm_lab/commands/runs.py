"""`minilm-lab runs`: the list of runs, filtered and sorted; or some of them beside each other."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.console import Console

from minilm_lab.commands import multirun
from minilm_lab.errors import LabError, nearest
from minilm_lab.reports import listing
from minilm_lab.reports.compare import compare, to_rich, to_text
from minilm_lab.reports.compare import to_data as comparison_data
from minilm_lab.reports.multirun import text
from minilm_lab.reports.records import load
from minilm_lab.reports.select import matching, named


def run(cfg: DictConfig) -> None:
    """Entry point for Hydra."""
    folder = Path(cfg.paths.runs)
    if cfg.multirun is not None:
        _show_multirun(folder / "multirun" / str(cfg.multirun), cfg.json)
        return
    known = load(folder)
    if cfg.compare is not None:
        compared = compare(named(known, _words(cfg.compare)))
        _show(cfg.json, comparison_data(compared), to_rich(compared), to_text(compared))
        return
    listed = listing.list_runs(
        matching(known, _words(cfg.where), cfg.experiment_name),
        command=cfg.command,
        state=cfg.state,
        contains=cfg.contains,
        sort=cfg.sort,
    )
    if not listed and not cfg.json:
        if known:
            print(f"none of the {len(known)} runs in {folder} fits")
        else:
            print(f"no runs in {folder}; start one with `minilm-lab distill` or `make demo`")
        return
    _show(cfg.json, listing.to_data(listed), listing.to_rich(listed), listing.to_text(listed))


def _show_multirun(folder: Path, as_json: bool) -> None:
    notes = multirun.notes(folder)
    if not notes:
        others = [path.name for path in folder.parent.glob("*") if path.is_dir()]
        raise LabError(
            f"multirun={folder.name}: {folder.parent} has no such multirun.{nearest(folder.name, others)}"
        )
    if as_json:
        print(json.dumps(notes, indent=2))
        return
    if notes[0]["command"] in multirun.RETURNS:
        print(text(notes, *multirun.RETURNS[notes[0]["command"]]))
    for line in multirun.failures(notes):
        print(f"failed: {line}")


def _show(as_json: bool, data: Any, pretty: Any, plain: str) -> None:
    if as_json:
        print(json.dumps(data, indent=2))
    elif sys.stdout.isatty():
        Console().print(pretty)
    else:
        print(plain, end="")


def _words(value: Any) -> list[str]:
    """A setting that is one text or a list of them."""
    if value is None:
        return []
    if isinstance(value, ListConfig):
        return [str(word) for word in OmegaConf.to_container(value) or []]
    return [str(value)]
