"""`minilm-lab expand`: a teacher answers what nobody answered, filtered, journalled, within a budget."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from minilm_lab import config
from minilm_lab.commands.parts import read_how
from minilm_lab.runs.graph import Run
from minilm_lab.runs.identity import slug
from minilm_lab.studies.authoring import gathering
from minilm_lab.studies.authoring.expansion.job import Expanding
from minilm_lab.studies.authoring.expansion.settings import Expansion


def plan(cfg: DictConfig) -> Run:
    """Check the config, read the records and name the run; no teacher is loaded."""
    how = read_how(cfg)
    settings: Any = OmegaConf.to_container(cfg.expansion, resolve=True)
    expansion = config.from_values(Expansion, settings, "expansion")
    data = gathering.gather(expansion.seeds, how.paths.hub, how.cache, expansion.share, True)
    open_records = gathering.open_records(
        expansion.seeds, how.paths.hub, how.cache, expansion.share, expansion.relabel
    )
    what = {**expansion.identity(), "data": gathering.checksum([*data.train, *data.dev, *open_records])}
    job = Expanding(expansion, how, data, open_records)
    name = slug("-".join(expansion.tasks), expansion.teacher.kind)
    return Run("expand", name, what, job, lambda: 0.0)


def run(cfg: DictConfig) -> float:
    """Entry point for Hydra; returns the number of accepted records."""
    planned = plan(cfg)
    if cfg.dry:
        told = planned.job.expander().estimate()
        print("\n".join(f"{name:<16} {value}" for name, value in told.items()))
        print("nothing was sent")
        return 0.0
    record = planned.make()
    rejected = ", ".join(f"{name} {count}" for name, count in record["rejected"].items()) or "none"
    print(f"accepted: {', '.join(f'{task} {count}' for task, count in record['accepted'].items())}")
    print(f"rejected: {rejected}")
    if record["stopped"]:
        print(f"stopped: {record['stopped']}")
    tokens = record["tokens"]
    print(f"requests: {record['requests']}, tokens: {tokens['in']} + {tokens['out']}, paid: {record['paid']}")
    hosts = ", ".join(f"{size} bytes to {host}" for host, size in record["sent"].items()) or "nothing"
    print(f"sent: {hosts}; left this machine: {record['left_this_machine']} bytes")
    print(f"records: {planned.folder.path / 'records.jsonl'}")
    return float(record["scores"]["accepted"])
