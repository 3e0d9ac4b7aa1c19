"""The one training loop: resumable, journalled, checkpointed."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from pytorch_lightning.plugins.environments import ClusterEnvironment, LightningEnvironment, SLURMEnvironment

from minilm_lab.children import load_for_parent
from minilm_lab.runs import metrics, stopping
from minilm_lab.runs.folder import seconds_before
from minilm_lab.runs.ranks import FOLLOWS, Followed, is_follower, launcher
from minilm_lab.training.callbacks import Journal, Progress, RandomnessByStep
from minilm_lab.training.checkpoints import (
    AtomicCheckpointIO,
    Checkpoints,
    discard_after,
    newest_whole,
    step_of,
)
from minilm_lab.training.devices import precision_of
from minilm_lab.training.guards import Guards
from minilm_lab.training.settings import How, TrainerSettings
from minilm_lab.training.sharding import NAME, Sharded, WholeAgain

log = logging.getLogger(__name__)
GROUP = (FOLLOWS, "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
"""What Lightning and the lab tell the processes of one run by."""


class EndlessData(pl.LightningDataModule):
    """Asks for the loader only once the restored step is known: the order of samples depends on it alone."""

    def __init__(self, loader: Callable[[int, int, int], Any]) -> None:
        super().__init__()
        self.loader = loader

    def train_dataloader(self) -> Any:
        """An endless loader that starts at the trainer's present step."""
        trainer = self.trainer
        assert trainer is not None
        loader = self.loader(trainer.global_step, trainer.global_rank, trainer.world_size)
        if loader.num_workers and loader.worker_init_fn is None:
            loader.worker_init_fn = load_for_parent
        return loader


@dataclass(frozen=True)
class Training:
    """What is trained, on what, and how long."""

    module: pl.LightningModule
    batches: Callable[[int, int, int], Any]
    """(first step, rank, world size) -> endless loader of micro-batches from that step on."""
    steps: int
    """Optimizer steps."""
    seed: int
    """Of what is drawn in a step, such as dropout."""
    callbacks: Sequence[pl.Callback] = ()


def _strategy(settings: TrainerSettings) -> Any:
    if settings.strategy != NAME:
        return settings.strategy
    return Sharded() if settings.devices > 1 else "auto"  # one device has nothing to share out


def _environment() -> list[ClusterEnvironment]:
    """Lightning takes an allocation's variables for processes that are there; where none were started, it must not.

    Nor may it queue a job again by itself: its checkpoint would be none of the lab's.
    """
    if launcher() in (None, "lab"):
        return [LightningEnvironment()]
    return [SLURMEnvironment(auto_requeue=False)] if launcher() == "srun" else []


def fit(training: Training, folder: Path, journal: Journal, how: How, loggers: Sequence[Any] = ()) -> None:
    """Train to the last step, from the newest whole checkpoint of the run's folder if there is one.

    journal: writes `folder/metrics.jsonl`; what lies there beyond the checkpoint is dropped first.
    """
    impl, settings, steps = how.impl, how.trainer, training.steps
    if impl.threads is not None:
        torch.set_num_threads(impl.threads)
    checkpoints = folder / "checkpoints"
    resume = newest_whole(checkpoints, journal.path)
    if not is_follower():
        start = step_of(resume) if resume else -1
        discard_after(checkpoints, start)
        metrics.rewind(journal.path, start)
        if resume:
            log.info("resuming %s from step %d of %d", folder.name, start, steps)
    began, before = time.monotonic(), seconds_before(checkpoints) if resume else 0.0
    # A checkpoint must fall on a written line, where no sums are pending.
    every = -(-settings.checkpoint_every // settings.log_every) * settings.log_every
    trainer = _quiet_trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        strategy=_strategy(settings),
        precision=precision_of(impl, settings.accelerator),
        accumulate_grad_batches=settings.accumulate,
        max_steps=steps,
        max_epochs=-1,
        logger=list(loggers),
        callbacks=[
            RandomnessByStep(training.seed),
            Guards(journal, training.batches, checkpoints, settings.log_every, training.seed),
            journal,
            Progress(journal, folder.name),
            *training.callbacks,
            Checkpoints(checkpoints, every, lambda: before + time.monotonic() - began, settings.log_every),
            WholeAgain(),
        ],
        plugins=[AtomicCheckpointIO(folder), *_environment()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=str(folder),
    )
    data = EndlessData(training.batches)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", module="pytorch_lightning|lightning_fabric|torch.optim.lr_scheduler"
        )
        try:
            with _for_followers(folder, settings):
                trainer.fit(training.module, datamodule=data, ckpt_path=resume, weights_only=True)
        except stopping.Requeued:
            raise
        except SystemExit as error:
            # Lightning ends the process after Ctrl-C or SIGTERM; the record and the exit code are ours.
            asked = isinstance(error.__context__, stopping.Terminated)
            kind = stopping.Terminated if asked else KeyboardInterrupt
            raise kind(f"stopped at step {trainer.global_step} of {steps}") from error
    if trainer.interrupted or trainer.global_step < steps:
        raise KeyboardInterrupt(f"stopped at step {trainer.global_step} of {steps}")
    if not trainer.is_global_zero:
        raise Followed


@contextmanager
def _for_followers(folder: Path, settings: TrainerSettings) -> Iterator[None]:
    """Make Lightning start the other processes of this run with this job's own command line.

    It copies sys.argv, which in a multirun or a table is that of all the jobs; and a follower must know which run of
    them it was started for.
    """
    if settings.devices == 1 or is_follower():
        yield
        return
    argv, module = sys.argv, Path(__file__).parents[1] / "__main__.py"
    command = argv[0].split()[-1]
    words = HydraConfig.get().overrides.task if HydraConfig.initialized() else argv[1:]
    sys.argv = [str(module), command, *words]
    before = {name: os.environ.get(name) for name in GROUP}
    os.environ[FOLLOWS] = folder.name.rpartition("-")[2]
    try:
        yield
    finally:
        sys.argv = argv
        # The next run of this process starts followers of its own: nothing of this group may be left.
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _quiet_trainer(**settings: Any) -> pl.Trainer:
    # Lightning tells about devices and advertises products at every start: errors and warnings are enough.
    for name in ("pytorch_lightning", "lightning_fabric"):
        for channel in ("", ".utilities.rank_zero", ".accelerators.cuda"):
            logging.getLogger(name + channel).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pl.Trainer(**settings)
