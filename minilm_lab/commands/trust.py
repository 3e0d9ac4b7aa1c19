"""What Hydra may run of a config: its own plugins. A config is data, also one that somebody else wrote.

The groups of the lab are built by `minilm_lab.config`, which takes nothing but dataclasses of the lab. Hydra itself
instantiates launcher, sweeper, callbacks and log handlers, from the node `hydra`, which an experiment file can
set too. So every config that Hydra composes in this process is checked here before Hydra uses it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from minilm_lab.errors import LabError

#: What `_target_` may name under `hydra`: Hydra's launcher, sweeper and callbacks, its plugins, samplers of searches.
TARGETS = (
    "hydra._internal.core_plugins.",
    "hydra.experimental.callbacks.",
    "hydra_plugins.",
    "optuna.samplers.",
    "minilm_lab.",
)
#: What handlers, formatters and filters of logs may be.
LOGGING = ("logging.", "colorlog.", "rich.logging.")


def check_hydra(config: DictConfig) -> None:
    """Raise LabError if the node `hydra` of a composed config names code that is not Hydra's."""
    node = config._get_node("hydra")
    if not isinstance(node, DictConfig):
        return
    values = OmegaConf.to_container(node, resolve=False)
    for path, key, value in _walk(values, "hydra"):
        if key == "_target_" and not _named(value, TARGETS):
            raise LabError(f"{path}={value}: Hydra may run its own plugins only ({', '.join(TARGETS)}…)")
        if key == "custom_search_space" and value is not None and not _named(value, ("minilm_lab.",)):
            raise LabError(f"{path}={value}: give the search space in hydra.sweeper.params")
        if not path.startswith(("hydra.job_logging.", "hydra.hydra_logging.")):
            continue
        if key in ("class", "()") and not _named(value, LOGGING):
            raise LabError(f"{path}={value}: logs are written by classes of {', '.join(LOGGING)}…")
        if isinstance(value, str) and "ext://" in value and not value.startswith("ext://sys.std"):
            raise LabError(f"{path}={value}: logs go to files, ext://sys.stdout or ext://sys.stderr")


def _named(value: Any, allowed: tuple[str, ...]) -> bool:
    """Whether a dotted name, written out, is of an allowed package."""
    return isinstance(value, str) and value.startswith(allowed) and "${" not in value


def _walk(value: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """(dotted path, last key, value) of every leaf."""
    if isinstance(value, Mapping):
        items: list[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))
    else:
        return
    for key, inner in items:
        here = f"{path}.{key}"
        yield here, str(key), inner
        yield from _walk(inner, here)


def guard_hydra() -> None:
    """Check every config that Hydra composes from now on: of a job, of each job of a multirun, of this program."""
    original = ConfigLoaderImpl.load_configuration
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def load(self: ConfigLoaderImpl, *arguments: Any, **options: Any) -> DictConfig:
        try:
            config = original(self, *arguments, **options)
        except (HydraException, OmegaConfBaseException, LabError):
            raise
        except Exception as error:  # a word that Hydra's parser takes and its composer stumbles over
            words = options.get("overrides") or next((a for a in arguments if isinstance(a, list)), [])
            shown = " ".join(repr(word if len(word) < 80 else word[:77] + "…") for word in words)
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise LabError(
                f"the overrides {shown} cannot be composed ({reason}); write group=option or group.key=value"
            ) from error
        check_hydra(config)
        return config

    ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]
