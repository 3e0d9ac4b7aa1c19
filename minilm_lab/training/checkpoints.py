"""Checkpoints that survive a kill and a full disk: atomic, checksummed, the last two kept."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from omegaconf import OmegaConf

from minilm_lab.atomic import settle
from minilm_lab.errors import LabError
from minilm_lab.runs import stopping
from minilm_lab.runs.differences import differing, told
from minilm_lab.runs.files import write_atomically, write_json

log = logging.getLogger(__name__)
KEPT = 2
PARTS = frozenset(
    {"state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "global_step", "what"}
)
"""What is in a checkpoint of training."""
_CHUNK = 1 << 22


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to the disk, renames; so a checkpoint is whole or not there.

    A checkpoint says what work it belongs to: training never goes on from that of another run.
    """

    def __init__(self, folder: Path) -> None:
        """folder: of the run. The lines of its metrics.jsonl so far belong to a checkpoint: they are flushed with it."""
        super().__init__()
        self.metrics, self.config = folder / "metrics.jsonl", folder / "config.yaml"

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Save to `path` and its checksum to `<path>.sum`; LabError when the disk is full."""
        target = Path(path)
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as stream:
                torch.save({**checkpoint, "what": _what(self.config)}, stream)
            files = [file for file in (temporary, self.metrics) if file.is_file()]
            settle(files)
            sums = "".join(f"{checksum(file)} {file.stat().st_size}\n" for file in files)
            write_atomically(_sum(target), sums.encode())
            temporary.replace(target)
            settle([target.parent])
        except (OSError, RuntimeError) as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise LabError(
                f"the checkpoint {target} could not be written ({_reason(error)}); the one before is whole. "
                "Free some space and start the same command again: it resumes there"
            ) from error

    def load_checkpoint(
        self, path: Any, map_location: Any = lambda storage, _: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint of this run; LabError if it is none, or of other work. No code in it is ever run."""
        delete = f"Delete the folder {Path(path).parent} to start from step 0"
        try:
            checkpoint = super().load_checkpoint(path, map_location, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            raise LabError(
                f"{path} is no checkpoint of the lab, although its checksum is right (it may hold code, which was not "
                f"run). {delete}"
            ) from error
        if not isinstance(checkpoint, Mapping) or not checkpoint.keys() >= PARTS:
            raise LabError(f"{path} is no checkpoint of the lab, although its checksum is right. {delete}")
        before, now = checkpoint["what"], _what(self.config)
        if before != now:
            changed = told(differing(json.loads(before), json.loads(now)))
            raise LabError(
                f"{path} was made by other work than this run's: {changed}. {delete}, or put the setting back"
            )
        return dict(checkpoint)


def _what(config: Path) -> str:
    """The what-config of the run, as JSON; "{}" where there is none."""
    what = OmegaConf.to_container(OmegaConf.load(config).what) if config.is_file() else {}
    return json.dumps(what, sort_keys=True)


def _reason(error: BaseException) -> str:
    # torch.save hides the disk's error behind a RuntimeError of its own.
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, OSError):
        seen = seen.__cause__ or seen.__context__
    return str(seen or error).splitlines()[0]


def _sum(path: Path) -> Path:
    return path.with_name(path.name + ".sum")


def checksum(path: Path, size: int | None = None) -> str:
    """Checksum (blake2b) of a file's content, or of its first `size` bytes."""
    digest = hashlib.blake2b(digest_size=16)
    left = path.stat().st_size if size is None else size
    with path.open("rb") as stream:
        while chunk := stream.read(min(left, _CHUNK)):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def newest_whole(folder: Path, metrics: Path | None = None) -> Path | None:
    """Return the newest checkpoint whose content matches its checksum; say which ones are passed over.

    metrics: metrics.jsonl; a checkpoint whose lines are not all there any more is passed over too.
    """
    passed = False
    for path in sorted(folder.glob("step-*.ckpt"), reverse=True):
        wrong = _wrong(path, metrics)
        if wrong is None:
            return path
        log.warning("checkpoint %s %s: looking at the one before", path, wrong)
        passed = True
    if passed:
        log.warning("no whole checkpoint is left in %s: starting from step 0", folder)
    return None


def _wrong(path: Path, metrics: Path | None) -> str | None:
    """Why a checkpoint cannot be used, or None."""
    try:
        # A line each for the checkpoint and the metrics: checksum and size.
        sums = [line.split() for line in _sum(path).read_text(errors="replace").splitlines()]
        if not sums or checksum(path) != sums[0][0]:
            return "is corrupt (its content does not match its checksum)"
    except (OSError, IndexError) as error:
        return f"is corrupt ({error})"
    if metrics is not None and len(sums) > 1:
        try:
            if checksum(metrics, int(sums[1][1])) != sums[1][0]:
                return f"cannot be used ({metrics.name} has lost lines from before it)"
        except (OSError, ValueError, IndexError) as error:
            return f"cannot be used ({error})"
    return None


def discard_after(folder: Path, step: int) -> None:
    """Delete the checkpoints of later steps than `step`, which training starts from: it will write them again."""
    for path in folder.glob("step-*"):
        if int(path.name.split("-")[1].split(".")[0]) > step:
            path.unlink(missing_ok=True)


def step_of(path: Path) -> int:
    """The optimizer step after which a checkpoint was written."""
    return int(path.stem.split("-")[1])


class Checkpoints(pl.Callback):
    """Saves every `every` steps and keeps the last two, with the seconds worked so far.

    After a SIGTERM it saves at the next written line, at most `line` steps later, and ends training; in a job of
    submitit it ends after the signal to queue the job again alone.
    """

    def __init__(self, folder: Path, every: int, clock: Any, line: int) -> None:
        """every: a multiple of `line`, the steps between two lines of the journal: no sums are pending there."""
        self.folder, self.every, self.clock, self.line = folder, every, clock, line
        self.step = 0
        self._listens = stopping.takes_signals()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """The checkpoint that training starts from is there: saving it again would fall within an accumulation."""
        self.step = trainer.global_step
        if self._listens:  # instead of Lightning's handler, which ends training without a checkpoint
            stopping.listen()

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Training is over."""
        if self._listens:
            stopping.leave()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save at multiples of `every`; the last step is kept by the product itself."""
        step = trainer.global_step
        if step == self.step:
            return  # within an accumulation
        self.step = step
        if step % self.line or step >= trainer.max_steps:
            return
        saves, stops = stopping.saves(), stopping.asked()
        if trainer.world_size > 1:  # all of them at the same step, whichever were told
            saves = trainer.strategy.reduce_boolean_decision(saves, all=False)
            stops = saves and trainer.strategy.reduce_boolean_decision(stops, all=False)
        if step % self.every == 0 or saves:
            self._save(trainer, step)
        if saves and trainer.is_global_zero:
            then = "ended" if stops else "to be ended"
            log.info("%s by a signal at step %d of %d; a checkpoint is saved", then, step, trainer.max_steps)
        if stops:
            stopping.end()

    def _save(self, trainer: pl.Trainer, step: int) -> None:
        trainer.save_checkpoint(self.folder / f"step-{step:09d}.ckpt")
        if trainer.is_global_zero:
            write_json(self.folder / "clock.json", {"seconds": self.clock()})
            for old in sorted(self.folder.glob("step-*.ckpt"))[:-KEPT]:
                old.unlink()
                _sum(old).unlink(missing_ok=True)
