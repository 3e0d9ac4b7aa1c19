"""Checkpoints that survive a kill and a full disk: atomic, checksummed, the last two kept."""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from minilm_lab.errors import LabError
from minilm_lab.runs.files import write_atomically, write_json

log = logging.getLogger(__name__)
KEPT = 2


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to the disk, renames; so a checkpoint is whole or not there."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Save to `path` and its checksum to `<path>.sum`; LabError when the disk is full."""
        target = Path(path)
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as stream:
                torch.save(checkpoint, stream)
                stream.flush()
                os.fsync(stream.fileno())
            write_atomically(_sum(target), checksum(temporary).encode())
            temporary.replace(target)
        except (OSError, RuntimeError) as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise LabError(
                f"the checkpoint {target} could not be written ({_reason(error)}); the one before is whole. "
                "Free some space and start the same command again: it resumes there"
            ) from error


def _reason(error: BaseException) -> str:
    # torch.save hides the disk's error behind a RuntimeError of its own.
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, OSError):
        seen = seen.__cause__ or seen.__context__
    return str(seen or error).splitlines()[0]


def _sum(path: Path) -> Path:
    return path.with_name(path.name + ".sum")


def checksum(path: Path) -> str:
    """Checksum (blake2b) of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def newest_whole(folder: Path) -> Path | None:
    """Return the newest checkpoint whose content matches its checksum; say which ones are passed over."""
    corrupt = False
    for path in sorted(folder.glob("step-*.ckpt"), reverse=True):
        try:
            if checksum(path) == _sum(path).read_text():
                return path
            reason = "its content does not match its checksum"
        except OSError as error:
            reason = str(error)
        log.warning("checkpoint %s is corrupt (%s): looking at the one before", path, reason)
        corrupt = True
    if corrupt:
        log.warning("no whole checkpoint is left in %s: starting from step 0", folder)
    return None


def step_of(path: Path) -> int:
    """The optimizer step after which a checkpoint was written."""
    return int(path.stem.split("-")[1])


class Checkpoints(pl.Callback):
    """Saves every `every` steps and keeps the last two, with the seconds worked so far."""

    def __init__(self, folder: Path, every: int, clock: Any) -> None:
        self.folder, self.every, self.clock = folder, every, clock
        self.saved = 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """The checkpoint that training starts from is there: saving it again would fall within an accumulation."""
        self.saved = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save at multiples of `every`; the last step is kept by the product itself."""
        step = trainer.global_step
        if step == self.saved or step % self.every or step >= trainer.max_steps:
            return
        self.saved = step
        trainer.save_checkpoint(self.folder / f"step-{step:09d}.ckpt")
        if trainer.is_global_zero:
            write_json(self.folder / "clock.json", {"seconds": self.clock()})
            for old in sorted(self.folder.glob("step-*.ckpt"))[:-KEPT]:
                old.unlink()
                _sum(old).unlink(missing_ok=True)
