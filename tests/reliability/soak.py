"""A long run: `python -m tests.reliability.soak --steps 20000` shows memory, open files and time a step by quarter."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lab import Lab

from reliability.scene import Material, Scene

_TICKS = os.sysconf("SC_CLK_TCK")
_MIB = 1024


@dataclass(frozen=True)
class Sample:
    """A process at one moment."""

    step: int
    seconds: float
    """By the wall."""
    cpu: float
    """Seconds of processor time."""
    rss: float
    """MiB in memory."""
    files: int
    """Open files."""
    threads: int


@dataclass(frozen=True)
class Quarter:
    """A quarter of a run."""

    rss: float
    """Largest, MiB."""
    files: int
    """Most."""
    threads: int
    cpu_ms: float
    """Processor time of a step."""
    wall_ms: float
    """Time of a step."""


def sample(pid: int, step: int) -> Sample | None:
    """Look at a process; None if it is gone."""
    place = Path("/proc", str(pid))
    try:
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
        times = (place / "stat").read_text().rpartition(")")[2].split()
        files = len(list((place / "fd").iterdir()))
        rss = int(status["VmRSS"].split()[0]) / _MIB
    except (OSError, KeyError):
        return None
    cpu = (int(times[11]) + int(times[12])) / _TICKS
    return Sample(step, time.monotonic(), cpu, rss, files, int(status["Threads"]))


def soak(material: Material, place: Path, steps: int, pause: float) -> tuple[list[Quarter], Scene]:
    """Distil for `steps` tiny steps, looking every `pause` seconds; returns the four quarters of the run."""
    words = [w for w in material.distill() if not w.startswith(("scale.steps", "trainer.", "scale.batch"))]
    words += [f"scale.steps={steps}", "scale.batch_size=2", f"trainer.held_out_every={max(1, steps // 20)}"]
    words += ["trainer.log_every=5", "trainer.checkpoint_every=50"]
    scene = Scene(material, place, words)
    running = scene.start()
    found: list[Sample] = []
    while (seen := sample(running.pid, _last_step(scene))) is not None:
        if 0 < seen.step < steps:
            found.append(seen)
        time.sleep(pause)
    finished = running.finish()
    assert finished.code == 0, finished.err
    return [_quarter(found, steps * n / 4, steps * (n + 1) / 4) for n in range(4)], scene


def _last_step(scene: Scene) -> int:
    """The last step of the journal, from the end of the file: it grows long."""
    for file in scene.runs.glob("*/*/metrics.jsonl"):
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - 1000))
            for line in reversed(stream.read().split(b"\n")):
                if line.startswith(b'{"step": '):
                    return int(line[9:].split(b",")[0])
    return 0


def _quarter(found: list[Sample], first: float, last: float) -> Quarter:
    here = [s for s in found if first <= s.step <= last]
    assert len(here) > 2, "looked too seldom"
    one, other = here[0], here[-1]
    steps = max(1, other.step - one.step)
    return Quarter(
        rss=max(s.rss for s in here),
        files=max(s.files for s in here),
        threads=max(s.threads for s in here),
        cpu_ms=1000 * (other.cpu - one.cpu) / steps,
        wall_ms=1000 * (other.seconds - one.seconds) / steps,
    )


def main() -> int:
    """Run it; exit code 1 if it is not flat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    chosen = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        place = Path(folder)
        (place / "lab").mkdir()
        material = Material(place / "material", Lab(place / "lab"))
        quarters, scene = soak(material, place / "run", chosen.steps, pause=0.5)
        metrics = (scene.run / "metrics.jsonl").stat().st_size
    print("| quarter | largest RSS, MiB | open files | threads | CPU ms a step | wall ms a step |")
    print("|---|---:|---:|---:|---:|---:|")
    for number, q in enumerate(quarters, start=1):
        print(
            f"| {number} | {q.rss:.1f} | {q.files} | {q.threads} | {q.cpu_ms:.2f} | {q.wall_ms:.1f} |",
        )
    print(f"\n{chosen.steps:,} steps, metrics.jsonl {metrics / 1e6:.2f} MB, {time.monotonic() - began:.0f} s")
    return int(not flat(quarters))


def flat(quarters: list[Quarter], slack: float = 8.0) -> bool:
    """Whether neither memory (more than `slack` MiB) nor open files nor threads grow after the first quarter.

    A file may be open just when it is looked (a checkpoint): two more are no leak, which would be one a step or checkpoint.
    """
    first, *later = quarters
    return all(
        q.rss <= first.rss + slack and q.files <= first.files + 2 and q.threads <= first.threads
        for q in later
    )


if __name__ == "__main__":
    sys.exit(main())
