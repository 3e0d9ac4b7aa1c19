"""The crash matrix: ways to disturb a run. Each case is given a scene, random numbers and its own settings."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from . import faults
from .scene import STEPS, Material, Scene

SAVES = 3
#: Checkpoints of a whole run: steps 6, 12 and 18.
INTERRUPTED = ["checkpoint", "sum", "older checkpoint", "clock.json", "metrics.jsonl"]
INTERRUPTED += ["status.json", "config.yaml", "lock", "tokens.bin", "index.json"]
COMPLETED = ["metrics.jsonl", "status.json", "config.yaml", "result.json", "lock"]
COMPLETED += ["student/model.safetensors", "tokens.bin", "index.json"]
CUTS = {"to nothing": lambda size: 0, "to half": lambda size: size // 2, "by one byte": lambda size: size - 1}


class CannotRun(Exception):
    """The case needs what this machine does not allow."""


@dataclass(frozen=True)
class Case:
    """One way to disturb a run."""

    family: str
    """Row of the table."""
    name: str
    disturb: Callable[[Scene, random.Random], None]
    command: str = "distill"
    workers: int = 0

    def words(self, material: Material) -> list[str]:
        """The command line."""
        if self.command == "pretrain":
            return material.pretrain()
        return getattr(material, self.command)(self.workers)


def try_case(case: Case, material: Material, place: Path, seed: int) -> list[str]:
    """Disturb a run, start it again; return what is wrong afterwards."""
    shutil.rmtree(place, ignore_errors=True)
    scene = Scene(material, place, case.words(material))
    case.disturb(scene, random.Random(f"{case.family}-{case.name}-{seed}"))
    scene.verdict()
    scene.close()
    return scene.notes


# --- signals ---


def kill_at_random(scene: Scene, draw: random.Random, times: int) -> None:
    """SIGKILL when the journal is at a random step, and a moment later; `times` times in a row."""
    for _ in range(times):
        running = scene.start(partial(faults.slow_steps, 0.005))
        target = min(scene.step() + draw.randint(1, 8), STEPS - 2)
        _wait(running, lambda at=target: scene.step() >= at)
        time.sleep(draw.random() * 0.02)
        running.signal(signal.SIGKILL)
        code = running.finish().code
        if code not in (0, -signal.SIGKILL):
            scene.notes.append(f"exit code {code}")
        scene.lone()


def kill_before_change(scene: Scene, draw: random.Random, number: int | None = None) -> None:
    """SIGKILL before the n-th change of a file; n is drawn if it is not given."""
    total = scene.material.whole(scene.words)["changes"]
    number = draw.randint(1, total) if number is None else number
    if not scene.killed(partial(faults.die_before_change, scene.runs, number)) and number <= total * 0.9:
        scene.notes.append(f"it was not killed before change {number} of {total}")


def kill_with(scene: Scene, draw: random.Random, fault: Callable[..., None], choices: Any) -> None:
    """SIGKILL inside something that a fault patches."""
    if not scene.killed(partial(fault, *choices(draw))):
        scene.notes.append("it was not killed")


def terminate_in_training(scene: Scene, draw: random.Random, times: int, group: bool) -> None:
    """SIGTERM at a random step, to the process or to all that it started: it saves, and exits with 143."""
    for _ in range(times):
        before = scene.step()
        target = before + draw.randint(1, 4)
        if target > STEPS - 5:
            return
        running = scene.start(slow_group)
        _wait(running, lambda at=target: scene.step() >= at)
        time.sleep(draw.random() * 0.02)
        (os.killpg if group else os.kill)(running.pid, signal.SIGTERM)
        scene.expect(running.finish(), 143, "a checkpoint is saved", "start the same command again")
        scene.lone()
        kept = sorted((scene.run / "checkpoints").glob("step-*.ckpt"))
        if not kept or int(kept[-1].stem.split("-")[1]) != scene.step():
            scene.notes.append(f"no checkpoint at the last step {scene.step()}: {[k.name for k in kept]}")
        status = json.loads((scene.run / "status.json").read_text())
        if status["state"] != "INTERRUPTED":
            scene.notes.append(f"its status is {status}")


def slow_group() -> None:
    """Slow steps, in a process group of their own."""
    faults.own_group()
    faults.slow_steps(0.01)


def terminate_in_tokenising(scene: Scene, draw: random.Random) -> None:
    """SIGTERM while text is tokenised: it ends at once, with 143 and nothing half-made."""
    mark = scene.place / "mark"
    running = scene.start(partial(faults.sleep_in_tokenising, draw.randint(1, 60), mark))
    _wait(running, mark.exists)
    running.signal(signal.SIGTERM)
    scene.expect(running.finish(), 143, "start the same command again")
    mark.unlink()
    if list(scene.cache.rglob("*.tmp")):
        scene.notes.append("half-made blocks are left")


def raise_in_callback(scene: Scene, draw: random.Random) -> None:
    """A callback raises at a random line."""
    finished = scene.start(partial(faults.raise_in_callback, draw.randint(1, 12))).finish()
    scene.expect(finished, 1, "a callback's error")
    scene.lone()


# --- files ---


def cut(scene: Scene, draw: random.Random, file: str, how: str, completed: bool) -> None:
    """Cut a file of an interrupted or of a completed run."""
    if completed:
        scene.expect(scene.start().finish(), 0)
    elif not scene.killed(partial(faults.die_before_change, scene.runs, _after_checkpoint(scene, draw))):
        scene.notes.append("it was not killed")
    path = _find(scene, file)
    size = path.stat().st_size
    os.truncate(path, max(CUTS[how](size), 0))


def _after_checkpoint(scene: Scene, draw: random.Random) -> int:
    # Late enough for two checkpoints, early enough for no product.
    total = scene.material.whole(scene.words)["changes"]
    return int(total * (0.72 + 0.06 * draw.random()))


def _find(scene: Scene, file: str) -> Path:
    if "checkpoint" in file or file == "sum":
        kept = sorted((scene.run / "checkpoints").glob("*.sum" if file == "sum" else "*.ckpt"))
        return kept[0] if file.startswith("older") else kept[-1]
    if file == "clock.json":
        return scene.run / "checkpoints" / file
    if file in ("tokens.bin", "index.json"):
        return next(scene.cache.glob(f"corpora/*/{file}"))
    return scene.run / file


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[None]:
    """Mount something at `place`; CannotRun where that is not allowed."""
    place.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(["mount", *options, str(place)], capture_output=True, check=False)
    except OSError as error:
        raise CannotRun(str(error)) from error
    if done.returncode != 0:
        raise CannotRun("mounting needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def full_disk(scene: Scene, draw: random.Random) -> None:
    """A file system that is full after a random number of bytes: an error that says so, and nothing lost."""
    free = draw.randint(20_000, 1_500_000)
    with mounted(scene.place / "disk", "-t", "tmpfs", "-o", f"size={free}", "tmpfs"):
        disk = scene.place / "disk"
        paths = [f"paths.runs={disk / 'runs'}", f"paths.cache={disk / 'cache'}"]
        finished = scene.start(None, *paths).finish()
        if finished.code != 0:
            scene.expect(finished, 1)
            _told(scene, finished.err)
        for name in ("runs", "cache"):  # the disk is exchanged for a larger one
            if (disk / name).exists():
                shutil.copytree(disk / name, scene.place / name)
    (scene.place / "disk").rmdir()


def file_limit(scene: Scene, draw: random.Random) -> None:
    """No file may be larger than a random limit, below that of a checkpoint."""
    finished = scene.start(partial(faults.largest_file, draw.choice([200, 2_000, 20_000, 100_000]))).finish()
    scene.expect(finished, 1)
    _told(scene, finished.err)


def _told(scene: Scene, said: str) -> None:
    if "Traceback" in said:
        scene.notes.append(f"a traceback for a full disk: {said[-700:]}")


def read_only(scene: Scene, draw: random.Random, name: str) -> None:
    """The folder of runs or the cache is on a read-only file system."""
    place = scene.place / name
    place.mkdir(parents=True)
    with mounted(place, "--bind", str(place)):
        done = subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=False)
        if done.returncode != 0:
            raise CannotRun("remounting needs root")
        scene.expect(scene.start().finish(), 1, f"paths.{name}={place} cannot be written to (Read-only")


def clock_back(scene: Scene, draw: random.Random) -> None:
    """The clock goes back by days within a run, which is then killed."""
    back = partial(faults.set_clock_back, draw.uniform(3600, 1e8))
    running = scene.start(back)
    _wait(running, lambda: scene.step() >= 8)
    running.signal(signal.SIGKILL)
    running.finish()
    scene.expect(scene.start(back).finish(), 0)
    seconds = json.loads((scene.run / "result.json").read_text())["wall_clock_s"]
    if not 0 < seconds < 600:
        scene.notes.append(f"a wall clock of {seconds} s")


# --- two processes ---


def two_at_once(scene: Scene, draw: random.Random, kill_first: bool) -> None:
    """Two processes start one run at the same moment; perhaps the one that works is killed."""
    both = [scene.start(partial(faults.slow_steps, 0.005)) for _ in range(2)]
    if kill_first:
        _wait(both[0], lambda: scene.step() >= 8)
        holder = json.loads((scene.run / "status.json").read_text())["pid"]
        os.kill(holder, signal.SIGKILL)
    codes = sorted(running.finish().code for running in both)
    if codes != ([-9, 0] if kill_first else [0, 0]):
        scene.notes.append(f"exit codes {codes}")
    scene.lone()


def one_cache(scene: Scene, draw: random.Random) -> None:
    """Two runs that need the same blocks at the same moment."""
    other = scene.start(None, "seed=1")
    one = scene.start()
    for running in (one, other):
        scene.expect(running.finish(), 0)
    built = [p for p in (scene.cache / "corpora").iterdir() if p.is_dir()]
    if len(built) != 1:
        scene.notes.append(f"{len(built)} folders of blocks")
    _forget_others(scene)


def one_assistant(scene: Scene, draw: random.Random) -> None:
    """Two students of one teacher assistant at the same moment: it is made once."""
    chain = ["assistant=l12_h384", "assistant.chain=[{layers: 4, hidden_size: 24}]"]
    small = [*chain, "objective.heads=4", "student=half_depth_half_width"]
    both = [scene.start(None, *small, f"optim.lr={rate}") for rate in ("1e-3", "1e-3")]
    both.append(scene.start(None, *small, "student.depth_ratio=0.25"))
    for running in both:
        scene.expect(running.finish(), 0)
    made = list((scene.runs / "distill").glob("*/result.json"))
    if len(made) != 3:
        scene.notes.append(f"{len(made)} runs instead of an assistant and two students")
    shutil.rmtree(scene.runs)


def _forget_others(scene: Scene) -> None:
    """Remove the runs that are not the scene's own."""
    wanted = scene.material.whole(scene.words)["record"]["identity"]
    for run in (scene.runs / scene.words[0]).iterdir():
        if not run.name.endswith(wanted):
            shutil.rmtree(run)


def _wait(running: Any, happened: Callable[[], bool], timeout: float = 300) -> None:
    """Wait until it happened, or the process ended."""
    end = time.monotonic() + timeout
    place = Path("/proc", str(running.pid))
    while not happened() and place.exists():
        if time.monotonic() > end:
            raise AssertionError("nothing happened")
        time.sleep(0.002)


# --- the matrix ---


def cases() -> list[Case]:
    """All cases; those with random numbers are tried with several seeds."""
    found: list[Case] = []

    def add(family: str, name: str, disturb: Any, command: str = "distill", workers: int = 0) -> None:
        found.append(Case(family, name, disturb, command, workers))

    for workers in (0, 2):
        for times in (1, 2, 3):
            name = f"{times} in a row, {workers} workers"
            add("SIGKILL at a random step", name, partial(kill_at_random, times=times), workers=workers)
        add(
            "SIGTERM in training",
            f"{workers} workers",
            partial(terminate_in_training, times=1, group=bool(workers)),
            workers=workers,
        )
    add("SIGTERM in training", "3 in a row", partial(terminate_in_training, times=3, group=False))
    add("SIGKILL before a file is changed", "any of the run's", kill_before_change)
    saves = partial(
        kill_with, fault=faults.die_in_checkpoint, choices=lambda d: (d.randint(1, SAVES), d.random())
    )
    add("SIGKILL inside a write", "of a checkpoint", saves)
    add(
        "SIGKILL inside a write",
        "of a line of metrics.jsonl",
        partial(kill_with, fault=faults.die_in_line, choices=lambda d: (d.randint(1, 15),)),
    )
    add(
        "SIGKILL inside a write",
        "of the blocks of the corpus",
        partial(kill_with, fault=faults.die_in_tokenising, choices=lambda d: (d.randint(1, 70),)),
    )
    add("SIGTERM in tokenising", "", terminate_in_tokenising)
    for command in ("finetune", "pretrain"):
        add("SIGKILL of other commands", command, kill_before_change, command)
    add("SIGKILL of other commands", "finetune, 2 workers", partial(kill_at_random, times=1), "finetune", 2)
    add("an exception in a callback", "", raise_in_callback)
    for completed, files in ((False, INTERRUPTED), (True, COMPLETED)):
        for file in files:
            for how in CUTS:
                family = f"a file of {'a completed' if completed else 'an interrupted'} run is cut"
                add(family, f"{file} {how}", partial(cut, file=file, how=how, completed=completed))
    add("disk full", "small file system", full_disk)
    add("disk full", "limit on the size of a file", file_limit)
    for name in ("runs", "cache"):
        add("read-only folder", name, partial(read_only, name=name))
    add("clock set back", "", clock_back)
    add("two processes at once", "on one run", partial(two_at_once, kill_first=False))
    add("two processes at once", "on one run, one is killed", partial(two_at_once, kill_first=True))
    add("two processes at once", "on one cache", one_cache)
    add("two processes at once", "on one assistant", one_assistant)
    return found
