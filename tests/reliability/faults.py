"""What goes wrong in a process: each of these is called in it before the command starts, and strikes later."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Audit events of Python that change a file system, and which of their arguments are paths.
CHANGES = {
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.mkdir": (0,),
    "os.rmdir": (0,),
    "os.truncate": (0,),
    "shutil.rmtree": (0,),
}


def die() -> None:
    """End at once, as after a power cut of this process."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def prepare(then: Callable[[], None] | None) -> None:
    """Make this fork of a server like a process of its own: the workers of its loaders are forks too. Then the fault."""
    multiprocessing.set_start_method("fork", force=True)
    if then is not None:
        then()


def own_group() -> None:
    """Lead a process group, so that a signal can be sent to the process and all that it starts."""
    os.setsid()


def _watch_changes(place: Path, happens: Callable[[int], None]) -> None:
    """Call `happens(n)` before the n-th change of a file under `place` by this process (not by its children)."""
    root, me, count = str(place), os.getpid(), 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            flags = arguments[2]
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
            paths = [arguments[0]]
        elif event in CHANGES:
            paths = [arguments[i] for i in CHANGES[event]]
        else:
            return
        inside = any(isinstance(p, (str, os.PathLike)) and os.fspath(p).startswith(root) for p in paths)
        if inside and os.getpid() == me:
            count += 1
            happens(count)

    sys.addaudithook(hook)


def die_before_change(place: Path, number: int) -> None:
    """SIGKILL just before the `number`-th time that something under `place` is opened for writing, renamed, removed …"""

    def happens(count: int) -> None:
        if count == number:
            die()

    _watch_changes(place, happens)


def count_changes(place: Path, into: Path) -> None:
    """Keep the number of changes under `place` in the file `into`."""
    descriptor = os.open(into, os.O_WRONLY | os.O_CREAT)
    _watch_changes(place, lambda count: os.pwrite(descriptor, f"{count:8d}".encode(), 0) and None)


def die_in_checkpoint(number: int, share: float) -> None:
    """SIGKILL when `share` of the `number`-th checkpoint is written."""
    import io

    import torch

    save, count = torch.save, 0

    def part(thing: Any, stream: Any) -> None:
        nonlocal count
        count += 1
        if count != number:
            save(thing, stream)
            return
        whole = io.BytesIO()
        save(thing, whole)
        content = whole.getvalue()
        stream.write(content[: int(share * len(content))])
        stream.flush()
        die()

    torch.save = part


def die_in_line(number: int) -> None:
    """SIGKILL when half of the `number`-th line of metrics.jsonl is written."""
    import json

    from minilm_lab.runs import metrics

    append, count = metrics.append, 0

    def part(path: Path, line: dict[str, Any]) -> None:
        nonlocal count
        count += 1
        if count != number:
            append(path, line)
            return
        text = json.dumps(line)
        with path.open("a") as stream:
            stream.write(text[: len(text) // 2])
        die()

    metrics.append = part


def die_in_tokenising(number: int) -> None:
    """SIGKILL in the `number`-th of many small batches of text: blocks are on the disk by then."""
    _while_tokenising(number, die)


def sleep_in_tokenising(number: int, mark: Path) -> None:
    """Write `mark` and wait in the `number`-th of many small batches of text."""

    def wait() -> None:
        mark.write_text("now")
        time.sleep(60)

    _while_tokenising(number, wait)


def _while_tokenising(number: int, then: Callable[[], None]) -> None:
    from minilm_lab.data import cache

    tokenise = cache.tokenise

    def slowly(*texts: Any, **how: Any) -> Any:
        for count, batch in enumerate(tokenise(*texts, batch=1, **how), start=1):
            if count == number:
                then()
            yield batch

    cache.tokenise = slowly


def raise_in_callback(number: int) -> None:
    """An error in the `number`-th line of the journal."""
    from minilm_lab.training.callbacks import Journal

    write, count = Journal.write, 0

    def fails(self: Journal, *arguments: Any) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise RuntimeError("a callback's error")
        write(self, *arguments)

    Journal.write = fails


def set_clock_back(seconds: float) -> None:
    """The wall clock goes back by `seconds` in half a second; time.monotonic goes on, as the system promises."""
    real, began = time.time, time.monotonic()
    time.time = lambda: real() - (seconds if time.monotonic() > began + 0.5 else 0)


def largest_file(size: int) -> None:
    """Writes beyond `size` bytes of a file fail, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def slow_steps(seconds: float) -> None:
    """Each micro-batch takes `seconds` longer, so that a signal falls into training."""
    from minilm_lab.training.distiller import Distiller

    step = Distiller.training_step

    def slower(self: Distiller, batch: Any, index: int) -> Any:
        time.sleep(seconds)
        return step(self, batch, index)

    Distiller.training_step = slower
