"""Jobs through the Hydra launcher that the user chose: joblib, submitit on this machine or on Slurm, any other."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from minilm_lab.commands import slurm
from minilm_lab.commands.composing import conf_folder, expand

log = logging.getLogger(__name__)


def chosen() -> str:
    """The launcher of the command that is running: basic, joblib, submitit_local, submitit_slurm, …"""
    return str(HydraConfig.get().runtime.choices.get("hydra/launcher") or "basic")


def launch(command: str, task: Callable[[DictConfig], Any], jobs: Sequence[Sequence[str]]) -> str | None:
    """Do `task` with the config of `command` under each job's overrides; return what went wrong with the launcher.

    A job tells its own success in its run's folder. Threads are shared out among the jobs that run at a time,
    unless impl.threads is given.
    """
    hydra_words = [w for w in HydraConfig.get().overrides.hydra if not w.startswith("hydra.mode")]
    # The global state belongs to the command that is running: put it back afterwards.
    instance, config = GlobalHydra.instance(), HydraConfig.instance()
    outer, outer_config, chosen_launcher = instance.hydra, config.cfg, chosen()
    instance.clear()
    try:
        with initialize_config_dir(str(conf_folder()), version_base="1.3", job_name=command):
            inner = GlobalHydra.instance().hydra
            assert inner is not None
            cfg = inner.compose_config(command, [*hydra_words, _folder(jobs[0])], RunMode.MULTIRUN)
            HydraConfig.instance().set_config(cfg)
            at_once, threads = shares(OmegaConf.to_container(cfg.hydra.launcher, resolve=True), _cores())
            words = [[f"impl.threads={threads}", *expand(job)] for job in jobs]
            context = HydraContext(config_loader=inner.config_loader, callbacks=Callbacks(cfg))
            launcher = Plugins.instance().instantiate_launcher(
                config=cfg, hydra_context=context, task_function=task
            )
            for first in range(0, len(words), at_once or len(words)):
                with slurm.waiting(chosen_launcher):
                    launcher.launch(words[first : first + (at_once or len(words))], initial_job_idx=first)
    except Exception as error:  # a launcher's own: a worker that was killed, a queue that refuses
        log.error("the launcher stopped: %s: %s", type(error).__name__, error)
        return f"{type(error).__name__}: {error}"
    finally:
        instance.hydra, config.cfg = outer, outer_config
        if chosen() == "joblib":  # its idle workers hold memory, and a parent that waits for its children
            from joblib.externals.loky import get_reusable_executor

            get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)
    return None


def _folder(job: Sequence[str]) -> str:
    """Where the launcher keeps its own files: beside the runs."""
    given = [word for word in job if word.startswith("paths.runs=")]
    return given[-1] if given else "paths.runs=runs"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shares(launcher: Any, cores: int) -> tuple[int | None, int | str]:
    """(jobs to hand over at a time, None = all; threads a job) of a launcher's settings.

    joblib holds its jobs back itself; submitit on one machine starts all that it is given.
    """
    target = str(launcher.get("_target_", ""))
    if "joblib" in target:
        workers = int(launcher.get("n_jobs") or 1)
        workers = max(1, cores + 1 + workers) if workers < 0 else workers
        return None, max(1, cores // min(workers, cores))
    if target.endswith("LocalLauncher"):
        wanted = int(launcher.get("array_parallelism") or cores)
        at_once = min(wanted, cores)
        return at_once, max(1, cores // at_once)
    return None, "null"
