"""`minilm-lab merrec`: files of the benchmark MerRec, or a month generated to its statistics: measured, or written."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from minilm_lab import config
from minilm_lab.errors import LabError, nearest
from minilm_lab.studies.merrec import statistics
from minilm_lab.studies.merrec.generator import Settings, generate
from minilm_lab.studies.merrec.source import Source
from minilm_lab.training.settings import Paths

DEEDS = ("statistics", "generate")


def run(cfg: DictConfig) -> None:
    """Entry point for Hydra."""
    if cfg.do not in DEEDS:
        raise LabError(f"do={cfg.do}: choose one of {', '.join(DEEDS)}.{nearest(str(cfg.do), DEEDS)}")
    paths: Paths = config.section(cfg, "paths")
    cache = Path(paths.cache).expanduser()
    settings = Settings(cfg.users, cfg.seed, cfg.users_a_shard)
    source = Source(cfg.path, tuple(map(str, cfg.months)), settings, paths.hub, cache)
    if cfg.do == "generate":
        out = source.generated if cfg.out is None else Path(cfg.out).expanduser()
        only = None if cfg.shards is None else range(*cfg.shards)
        print(f"{generate(settings, out, only):,} rows (generated) in {out}")
        return
    files = source.shards()
    values = statistics.measured(files, cache / "merrec" / "spill", memory=cfg.memory, threads=cfg.threads)
    table = statistics.beside(values, files)
    print(table.to_markdown(index=False, floatfmt=".2f"))
    counts = ", ".join(f"{values[name]:,.0f} {name}" for name in ("events", "users", "items", "sessions"))
    print(f"\n{counts}; {table.attrs['note']}.")
    if outside := table.loc[~table["within"], "statistic"].tolist():
        print(f"Outside the tolerance of a generated month: {', '.join(outside)}.")
