"""One training loop for distillation and fine-tuning: resumable, journalled, checkpointed."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from pytorch_lightning.strategies import StrategyRegistry

from minilm_lab.children import load_for_parent
from minilm_lab.errors import LabError, nearest
from minilm_lab.relations.api import available_backends
from minilm_lab.runs import metrics, stopping
from minilm_lab.runs.folder import seconds_before
from minilm_lab.runs.ranks import FOLLOWS, Followed, is_follower
from minilm_lab.training.callbacks import Journal, Progress, RandomnessByStep
from minilm_lab.training.checkpoints import (
    AtomicCheckpointIO,
    Checkpoints,
    discard_after,
    newest_whole,
    step_of,
)
from minilm_lab.training.guards import Guards
from minilm_lab.training.same_work import SameWork
from minilm_lab.training.settings import Impl, TrainerSettings

log = logging.getLogger(__name__)


def precision_of(impl: Impl, accelerator: str) -> str:
    """Lightning's name for impl.precision; "auto" is bf16 where the hardware multiplies it natively."""
    wanted = impl.precision
    if wanted == "auto":
        cuda = uses_gpu(accelerator)
        native = torch.cuda.is_bf16_supported() if cuda else _cpu_multiplies_bf16()
        wanted = "bf16" if native else "16" if cuda else "32"
    return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[wanted]


def uses_gpu(accelerator: str) -> bool:
    """Whether trainer.accelerator means a GPU on this machine."""
    return accelerator in ("auto", "gpu") and torch.cuda.is_available()


def _cpu_multiplies_bf16() -> bool:
    # AMX tiles: four and more times the float32 rate. Without them bf16 on a CPU is slower than float32.
    check = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(check()) if check is not None else False


def micro_batch(batch_size: int, trainer: TrainerSettings, setting: str) -> int:
    """Samples a device sees at a time; LabError if the batch (of `setting`) cannot be shared out."""
    shares = trainer.devices * trainer.accumulate
    if batch_size % shares:
        raise LabError(
            f"{setting}={batch_size} cannot be shared out over trainer.devices={trainer.devices} x "
            f"trainer.accumulate={trainer.accumulate}; make it a multiple of {shares}"
        )
    return batch_size // shares


def check_device(impl: Impl, trainer: TrainerSettings) -> None:
    """Refuse what this machine cannot do, before anything is loaded."""
    gpus = torch.cuda.device_count()
    if trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise LabError(f"trainer.accelerator={trainer.accelerator}: torch sees no GPU here; use auto or cpu")
    on_gpu = uses_gpu(trainer.accelerator)
    if on_gpu and trainer.devices > gpus:
        raise LabError(f"trainer.devices={trainer.devices}: torch sees {gpus} GPUs here")
    strategies = ("auto", *StrategyRegistry.available_strategies())
    if trainer.strategy not in strategies:
        raise LabError(
            f"trainer.strategy={trainer.strategy} is unknown.{nearest(trainer.strategy, strategies)} "
            f"There are: {', '.join(strategies)}"
        )
    for name in ("precision", "teacher_precision"):
        if getattr(impl, name) == "16" and not on_gpu:
            raise LabError(f"impl.{name}=16 needs a GPU (float16); use bf16 or 32")
    if impl.backend == "triton" and not (on_gpu and "triton" in available_backends(torch.device("cuda"))):
        where = "this GPU" if on_gpu else "a CPU"
        raise LabError(f"impl.backend=triton does not run on {where}; use auto, blockwise or reference")


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


def fit(
    module: pl.LightningModule,
    loader: Callable[[int, int, int], Any],
    *,
    steps: int,
    seed: int,
    title: str,
    folder: Path,
    impl: Impl,
    settings: TrainerSettings,
    loggers: Sequence[Any],
    journal: Journal,
    callbacks: Sequence[pl.Callback] = (),
) -> None:
    """Train `module` to `steps` optimizer steps, from the newest whole checkpoint of `folder` if there is one.

    loader: (first step, rank, world size) -> endless loader of micro-batches from that step on.
    journal: writes `folder/metrics.jsonl`; what lies there beyond the checkpoint is dropped first.
    """
    if impl.threads is not None:
        torch.set_num_threads(impl.threads)
    checkpoints = folder / "checkpoints"
    journalled = folder / "metrics.jsonl"
    resume = newest_whole(checkpoints, journalled)
    if not is_follower():
        start = step_of(resume) if resume else -1
        discard_after(checkpoints, start)
        metrics.rewind(journalled, start)
    if resume and not is_follower():
        log.info("resuming %s from step %d of %d", folder.name, step_of(resume), steps)
    began, before = time.monotonic(), seconds_before(checkpoints) if resume else 0.0
    # A checkpoint must fall on a written line, where no sums are pending.
    every = -(-settings.checkpoint_every // settings.log_every) * settings.log_every
    trainer = _quiet_trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        strategy=settings.strategy,
        precision=precision_of(impl, settings.accelerator),
        accumulate_grad_batches=settings.accumulate,
        max_steps=steps,
        max_epochs=-1,
        logger=list(loggers),
        callbacks=[
            RandomnessByStep(seed),
            Guards(journal, loader, checkpoints, settings.log_every, seed),
            journal,
            Progress(journal, title),
            *callbacks,
            SameWork(folder / "config.yaml"),
            Checkpoints(checkpoints, every, lambda: before + time.monotonic() - began, settings.log_every),
        ],
        plugins=[AtomicCheckpointIO(journalled)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=str(folder),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", module="pytorch_lightning|lightning_fabric|torch.optim.lr_scheduler"
        )
        try:
            with _for_followers(folder, settings):
                trainer.fit(module, datamodule=EndlessData(loader), ckpt_path=resume, weights_only=True)
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
    os.environ[FOLLOWS] = folder.name.rpartition("-")[2]
    try:
        yield
    finally:
        sys.argv = argv
        del os.environ[FOLLOWS]


def _quiet_trainer(**settings: Any) -> pl.Trainer:
    # Lightning tells about devices and advertises products at every start: errors and warnings are enough.
    for name in ("pytorch_lightning", "lightning_fabric"):
        for channel in ("", ".utilities.rank_zero", ".accelerators.cuda"):
            logging.getLogger(name + channel).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pl.Trainer(**settings)
