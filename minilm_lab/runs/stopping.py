"""SIGTERM, with which a cluster asks a job to end: training goes on to its next checkpoint, other work ends at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType

_asked = False


class Terminated(KeyboardInterrupt):
    """The process was asked to end. Like Ctrl-C, nothing that catches errors catches it."""


def terminate(number: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
    """Handler of SIGTERM where nothing is lost by ending at once."""
    raise Terminated("stopped by SIGTERM")


def _note(number: int, frame: FrameType | None) -> None:
    global _asked
    if _asked:  # a second signal: no patience
        terminate()
    _asked = True


def takes_signals() -> bool:
    """Whether SIGTERM is the lab's to handle here: not where a launcher (submitit) listens for it, nor in a thread."""
    mine = signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, terminate)
    return mine and threading.current_thread() is threading.main_thread()


def listen() -> None:
    """From now on SIGTERM is only noted: see `asked`."""
    signal.signal(signal.SIGTERM, _note)


def asked() -> bool:
    """Whether SIGTERM came since `listen`."""
    return _asked


def check() -> None:
    """Raise Terminated if SIGTERM was noted."""
    if _asked:
        terminate()
