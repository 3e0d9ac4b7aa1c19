"""The typed parts of a composed config that both `distill` and `finetune` need, checked before anything loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from minilm_lab import config
from minilm_lab.errors import LabError
from minilm_lab.models.teacher import Teacher
from minilm_lab.once import once
from minilm_lab.runs.ranks import join
from minilm_lab.secrecy import check_config
from minilm_lab.training.devices import check_device
from minilm_lab.training.settings import How, Scale


def read_how(cfg: DictConfig) -> How:
    """Check and build impl, trainer, logger and paths."""
    check_readable(cfg)
    built = {name: config.section(cfg, name) for name in ("impl", "trainer", "logger", "paths")}
    hub = built["paths"].hub
    if hub is not None and not Path(hub).expanduser().is_dir():
        raise LabError(f"paths.hub={hub} is not a folder; it holds <owner>/<name>/… as on the hub")
    join(built["trainer"].devices)
    check_device(built["impl"], built["trainer"])
    asked = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(asked, dict)
    composed = {str(name): group for name, group in asked.items() if name != "hydra"}
    check_config(composed)
    return How(**built, experiment=str(cfg.get("experiment_name") or ""), asked=composed)


def check_readable(cfg: DictConfig) -> None:
    """Refuse a config of which a group or setting at the top is missing or leads nowhere."""
    for name in map(str, cfg):
        try:
            cfg.get(name)
            missing = OmegaConf.is_missing(cfg, name)
        except OmegaConfBaseException as error:
            raise LabError(f"{name}: {str(error).splitlines()[0]}") from error
        if missing:
            raise LabError(f"{name} must be given, for example {name}=…")


def read_seed(cfg: DictConfig) -> int:
    """The seed of distillation."""
    seed = cfg.get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise LabError(f"seed={seed!r} must be a whole number, 0 or more")
    return seed


def scale_of(cfg: DictConfig) -> Scale:
    """The group `scale`."""
    scale = config.section(cfg, "scale")
    assert isinstance(scale, Scale)
    return scale


def check_length(scale: Scale, teacher: Teacher, positions: int) -> None:
    """Refuse blocks that are longer than the teacher has positions for."""
    if scale.length > positions:
        raise LabError(f"scale.length={scale.length} is beyond the {positions} positions of {teacher.name}")


def corpus_identity(corpus: Any, how: How) -> dict[str, Any]:
    """What of a corpus decides a result: its settings and its content, not its name or where it lies."""

    def read() -> str:
        fingerprint: str = corpus.fingerprint(how.paths.hub, how.cache)
        return fingerprint

    fields = {k: v for k, v in config.plain(corpus).items() if k not in ("name", "path")}
    return {**fields, "fingerprint": once(("corpus", repr(corpus), how.paths.hub), read)}
