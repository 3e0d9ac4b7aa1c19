"""Runs `minilm-lab …` as processes of their own that start at once: forks of a server that imported everything.

Importing the libraries takes seconds a process. The server does it once and computes nothing, so its forks are
as fresh as new processes: they have their own exit code, can be killed, and share no state with each other.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

PRELOAD = [
    "torch",
    "pytorch_lightning",
    "transformers.models.bert.modeling_bert",
    "datasets",
    "wandb",
    "hydra.main",
    "minilm_lab.commands.distill",
    "minilm_lab.commands.finetune",
    "minilm_lab.commands.table",
    "minilm_lab.commands.runs",
    "minilm_lab.commands.inspect",
    "minilm_lab.commands.export",
]
#: No hub answers, whatever network the machine has; one thread.
ENVIRONMENT = {
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "WANDB_MODE": "disabled",
}


@dataclass(frozen=True)
class Finished:
    """What a command left: exit code (negative: the signal that killed it) and its two streams."""

    code: int
    out: str
    err: str


class Running:
    """A started command."""

    def __init__(self, process: multiprocessing.process.BaseProcess, streams: Path) -> None:
        self._process, self._streams = process, streams

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def wait_until(self, happened: Callable[[], bool], timeout: float = 120) -> None:
        """Return as soon as `happened()`; fail if the command ends before or it takes too long."""
        end = time.monotonic() + timeout
        while not happened():
            assert self._process.is_alive(), f"ended too early:\n{self.finish()}"
            assert time.monotonic() < end, f"nothing happened in {timeout} s"
            time.sleep(0.002)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def finish(self, timeout: float = 300) -> Finished:
        """Wait for the end."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise AssertionError(f"still running after {timeout} s:\n{self._read('err')}")
        return Finished(self._process.exitcode, self._read("out"), self._read("err"))

    def _read(self, name: str) -> str:
        return (self._streams / name).read_text(encoding="utf-8", errors="replace")


class Lab:
    """Starts `minilm-lab` with arguments, in a folder of its own."""

    def __init__(self, scratch: Path) -> None:
        self._scratch, self._count = scratch, 0
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOAD)
        before = dict(os.environ)
        os.environ.update(ENVIRONMENT)
        try:
            forkserver.ensure_running()
        finally:
            os.environ.clear()
            os.environ.update(before)

    def start(
        self,
        *arguments: object,
        env: dict[str, str | None] | None = None,
        cwd: Path | None = None,
        before: Callable[[], None] | None = None,
    ) -> Running:
        """Start a command. env: added to the environment (None: taken out of it); before: called in the new process first."""
        self._count += 1
        streams = self._scratch / f"process-{self._count}"
        streams.mkdir()
        words = [str(word) for word in arguments]
        process = self._context.Process(
            target=_main, args=(words, env or {}, streams, cwd or streams, before)
        )
        process.start()
        return Running(process, streams)

    def run(self, *arguments: object, timeout: float = 300, **options: object) -> Finished:
        """Start a command and wait for its end."""
        return self.start(*arguments, **options).finish(timeout)  # type: ignore[arg-type]


def _main(
    words: Sequence[str],
    env: dict[str, str | None],
    streams: Path,
    cwd: Path,
    before: Callable[[], None] | None,
) -> None:
    for number, name in ((1, "out"), (2, "err")):
        descriptor = os.open(streams / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    for name, value in env.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    # A shell without job control starts what it puts in the background deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A process of the server's starts others by the server too; one from a shell forks them.
    multiprocessing.set_start_method("fork", force=True)
    os.chdir(cwd)
    sys.argv = ["minilm-lab", *words]
    if before is not None:
        before()
    from minilm_lab.commands.cli import main

    main()
