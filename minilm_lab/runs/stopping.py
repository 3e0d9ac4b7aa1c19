"""Signals with which a cluster asks a job to end: training goes on to its next checkpoint, other work ends at once.

Alone, SIGTERM ends the process. Under submitit (Hydra's launcher for Slurm) a job has two: SIGTERM says that Slurm will
kill it and perhaps queue it again; SIGUSR2 makes submitit queue it again itself. A job that ends by itself after
SIGTERM would be failed, not queued again: so it saves a checkpoint, and works on until it is killed.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_asked = False
_saves = False
_requeues: tuple[int, Callable[..., Any]] | None = None


class Terminated(KeyboardInterrupt):
    """The process was asked to end. Like Ctrl-C, nothing that catches errors catches it."""


class Requeued(SystemExit):
    """Slurm has queued this job again, and its process ends."""


def terminate(number: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
    """Handler of SIGTERM where nothing is lost by ending at once."""
    raise Terminated("stopped by SIGTERM")


def _note(number: int, frame: FrameType | None) -> None:
    global _asked
    if _asked:  # a second signal: no patience
        end()
    _asked = True


def _note_to_save(number: int, frame: FrameType | None) -> None:
    global _saves
    _saves = True


def takes_signals() -> bool:
    """Whether signals are the lab's to handle here: by itself or before submitit; not in a thread, nor another's."""
    mine = signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, terminate)
    return (mine or _of_submitit() is not None) and threading.current_thread() is threading.main_thread()


def _of_submitit() -> tuple[int, Callable[..., Any]] | None:
    """The signal at which submitit queues this job again, and its handler; None where it does not listen."""
    for number in (signal.SIGUSR2, signal.SIGUSR1):
        handler = signal.getsignal(number)
        owner = type(getattr(handler, "__self__", None)).__module__
        if callable(handler) and owner.partition(".")[0] == "submitit":
            return number, handler
    return None


def listen() -> None:
    """From now on signals are only noted: see `asked` and `saves`."""
    global _requeues
    _requeues = _of_submitit() or _requeues
    if _requeues is None:
        signal.signal(signal.SIGTERM, _note)
    else:
        signal.signal(signal.SIGTERM, _note_to_save)
        signal.signal(_requeues[0], _note)


def leave() -> None:
    """Training is over: submitit may end what follows at once."""
    if _requeues is not None and threading.current_thread() is threading.main_thread():
        signal.signal(*_requeues)


def asked() -> bool:
    """Whether the process is to end, since `listen`."""
    return _asked


def saves() -> bool:
    """Whether a checkpoint is wanted since `listen`, or since this was last asked."""
    global _saves
    wanted, _saves = _asked or _saves, False
    return wanted


def end() -> None:
    """Raise what ends this process: Requeued where submitit queues the job again, else Terminated."""
    if _requeues is None:
        terminate()
        return
    try:
        _requeues[1](_requeues[0], None)
    except SystemExit as error:
        raise Requeued(error.code) from error
    terminate()  # of several tasks the first alone queues the job again; or submitit may not, and says why


def check() -> None:
    """Raise what `end` raises if the process is to end."""
    if _asked:
        end()
