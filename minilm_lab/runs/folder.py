"""The folder of a run: its lock, its status and its record."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from minilm_lab import locks
from minilm_lab.atomic import settle
from minilm_lab.errors import LabError
from minilm_lab.once import once
from minilm_lab.runs import contents, stopping
from minilm_lab.runs.files import read_json, sweep, write_atomically, write_json
from minilm_lab.runs.ranks import FOLLOWS, Followed, is_follower, takes_part
from minilm_lab.secrecy import without_secrets

log = logging.getLogger(__name__)


def now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _names(place: Path) -> dict[str, str]:
    """Identity -> name of the folder, of all runs of a command."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return {path.name.rpartition("-")[2]: path.name for path in sorted(place.iterdir(), reverse=True)}
    return {}


@dataclass(frozen=True)
class RunFolder:
    """`<runs>/<command>/<slug>-<identity>/` and the files in it."""

    runs: Path
    command: str
    name: str
    identity: str

    @property
    def path(self) -> Path:
        """The folder. A run made under another name is found again by its identity."""
        place = self.runs / self.command
        try:
            names = once(("names of runs", str(place)), lambda: _names(place))
        except OSError as error:
            raise LabError(f"paths.runs={self.runs} cannot be read ({error.strerror or error})") from error
        return place / names.get(self.identity, f"{self.name}-{self.identity}")

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def error_log(self) -> Path:
        """The traceback of the last failure; not there in a completed run."""
        return self.path / "error.log"

    @property
    def checkpoints(self) -> Path:
        """Training state, kept until the run is completed."""
        return self.path / "checkpoints"

    def result(self) -> dict[str, Any] | None:
        """The record of a completed run, else None. It is the last thing that the work writes, and at once.

        A run one of whose files was cut since counts as not completed: it is done again.
        """
        result = read_json(self.path / "result.json")
        if not isinstance(result, dict) or contents.damaged(self.path, result.get("files")):
            return None
        return result

    def status(self, state: str, error: str | None = None) -> None:
        """Write status.json: RUNNING, COMPLETED, INTERRUPTED, or FAILED with the error."""
        found = read_json(self.path / "status.json")
        old = found if isinstance(found, dict) else {}
        write_json(
            self.path / "status.json",
            {
                "state": state,
                "error": error,
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "started": now() if state == "RUNNING" else old.get("started", now()),
                "updated": now(),
            },
        )

    def _unwritable(self, error: OSError) -> LabError:
        return LabError(f"paths.runs={self.runs} cannot be written to ({error.strerror or error})")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run; wait, saying who holds it, while another process does. A killed holder frees it."""
        try:
            place = self.runs / self.command
            place.mkdir(parents=True, exist_ok=True)
            with ExitStack() as stack:
                # Two processes may have two names for one identity: the first makes the folder of both.
                with suppress(OSError):  # file systems that cannot lock a folder
                    stack.enter_context(locks.locked(place))
                self.path.mkdir(exist_ok=True)
            stream = (self.path / "lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise self._unwritable(error) from error
        with stream:
            told = False
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not told:
                        stream.seek(0)
                        holder = stream.read().strip() or "another process"
                        log.warning("waiting: %s is being worked on by %s", self.path, holder)
                        told = True
                    time.sleep(0.5)
            stream.seek(0)
            stream.truncate()
            stream.write(f"process {os.getpid()} on {socket.gethostname()} since {now()}")
            stream.flush()
            yield


def execute(
    folder: RunFolder,
    what: dict[str, Any],
    how: dict[str, Any],
    work: Callable[[RunFolder], dict[str, Any]],
) -> dict[str, Any]:
    """Return the record of the run: from its folder if it is completed, else by doing `work`.

    `work` gets the folder and returns the command's own part of the record. While it runs the folder is
    locked, so two processes never work on one run: the second waits, then finds the record. Of the processes of a
    run on several devices only the first holds the folder.
    """
    if folder.result() is None and is_follower():
        _follow(folder, work)
    if folder.result() is None:
        with folder.locked():
            if folder.result() is None:  # not finished by a process that we waited for
                stopping.check()  # SIGTERM came too late to stop the run before: this one is not begun
                _work(folder, what, how, work)
    _close(folder)
    done = folder.result()
    assert done is not None
    return done


def _follow(folder: RunFolder, work: Callable[[RunFolder], dict[str, Any]]) -> None:
    """Take part in the training of a run that another process leads, and wait for its record."""
    if not takes_part(folder.identity):
        raise LabError(f"{folder.path} is not what this process was started for")
    with suppress(Followed):
        work(folder)
    if FOLLOWS in os.environ:  # started for this run alone
        sys.exit(0)
    while folder.result() is None:
        time.sleep(0.5)


def _close(folder: RunFolder) -> None:
    """Say that the run is completed and drop its checkpoints, also where a kill came just before this."""
    status = read_json(folder.path / "status.json")
    said = isinstance(status, dict) and status.get("state") == "COMPLETED"
    if is_follower() or (said and not folder.checkpoints.exists()):
        return
    with (
        suppress(OSError, LabError),
        folder.locked(),
    ):  # a folder that is read-only by now has its record all the same
        sweep(folder.path)
        folder.status("COMPLETED")
        shutil.rmtree(folder.checkpoints, ignore_errors=True)


def _work(
    folder: RunFolder,
    what: dict[str, Any],
    how: dict[str, Any],
    work: Callable[[RunFolder], dict[str, Any]],
) -> None:
    from minilm_lab.runs.environment import describe

    text = OmegaConf.to_yaml(OmegaConf.create(json.loads(json.dumps({"what": what, "how": how}))))
    try:
        _begin_again(folder)
        folder.status("RUNNING")
        write_atomically(folder.path / "config.yaml", text.encode())
    except OSError as error:
        raise folder._unwritable(error) from error
    # Read now: the checkpoints of this session will count its seconds too.
    earlier = seconds_before(folder.checkpoints)
    began, where = time.monotonic(), describe(folder.path)
    try:
        own = work(folder)
    except BaseException as error:
        _fail(folder, error)
        raise
    record = {
        "command": folder.command,
        "identity": folder.identity,
        "name": folder.name,
        "config": what,
        **own,
        "wall_clock_s": round(earlier + time.monotonic() - began, 1),
        "finished": now(),
        **where,
        "files": contents.sizes(folder.path),
    }
    # The record says that all the rest is there: after a power cut too.
    settle(contents.everything(folder.path))
    write_json(folder.path / "result.json", record)


def _begin_again(folder: RunFolder) -> None:
    """Remove what a killed process left half-written, and a record that holds no longer."""
    for place in (folder.path, folder.checkpoints):
        sweep(place)
    record = folder.path / "result.json"
    old = read_json(record)
    if isinstance(old, dict):
        log.warning(
            "%s was completed, but %s: it is done again",
            folder.path,
            contents.damaged(folder.path, old.get("files")),
        )
    record.unlink(missing_ok=True)
    folder.error_log.unlink(missing_ok=True)


def seconds_before(checkpoints: Path) -> float:
    """Seconds of work of earlier sessions, up to the checkpoint from which a resumed run goes on."""
    before = read_json(checkpoints / "clock.json")
    seconds = before.get("seconds") if isinstance(before, dict) else None
    return float(seconds) if isinstance(seconds, (int, float)) else 0.0


def _fail(folder: RunFolder, error: BaseException) -> None:
    interrupted = isinstance(error, (KeyboardInterrupt, SystemExit))
    try:
        if isinstance(error, Exception):
            text = "".join(traceback.format_exception(error))
            write_atomically(folder.error_log, f"{now()}\n{without_secrets(text)}".encode(errors="replace"))
            error.add_note(f"log: {folder.error_log}")
        if isinstance(error, stopping.Requeued):
            folder.status("INTERRUPTED", "queued again: it goes on from its checkpoint")
        elif interrupted:
            folder.status("INTERRUPTED", f"{type(error).__name__}: interrupted")
        else:
            folder.status("FAILED", f"{type(error).__name__}: {error}")
    except OSError:
        log.warning("the status of %s could not be written (disk full?)", folder.path)
