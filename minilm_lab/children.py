"""Child processes that end with the process that started them, however that one ends."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from types import FrameType

_PR_SET_PDEATHSIG = 1


def end_with_parent(_: int = 0) -> None:
    """Call first thing in a child: the system kills it as soon as its parent is gone (Linux; elsewhere: nothing).

    A parent that is killed cannot end its children. They would wait for it for ever and, as forks, hold its locks, so
    that the next start of the same run waited for them. The argument lets this be a `worker_init_fn`.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the parent's handler
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    forked = multiprocessing.get_start_method(allow_none=True) == "fork"
    if forked and parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # it died before the call


def load_for_parent(_: int = 0) -> None:
    """`worker_init_fn` of data loaders: end with the parent, and leave a request to end (SIGTERM) to it.

    Clusters send the signal to every process of a job. The parent ends at a checkpoint, for which it still needs its
    workers; a second signal is the parent's own, for a worker that does not stop.
    """
    end_with_parent()

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, first)
