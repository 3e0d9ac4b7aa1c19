"""A corpus larger than memory: `python -m tests.reliability.streaming --megabytes 200` shows what tokenising it takes."""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch  # before the fork: what the libraries take is not the text's
from data.helpers import WORDS, wordpiece

from minilm_lab.data import build, loader
from minilm_lab.data.path import PathCorpus

_MIB = 1 << 20


def write_text(file: Path, megabytes: int) -> None:
    """Paragraphs of random words, `megabytes` MB of them."""
    draw = random.Random(3)
    sheet = "\n".join(" ".join(draw.choice(WORDS) for _ in range(120)) + "." for _ in range(1500)) + "\n"
    with file.open("w", encoding="utf-8") as stream:
        written = 0
        while written < megabytes * 1_000_000:
            # Every copy is different: the checksum must not be that of a smaller text.
            written += stream.write(f"sheet {written}\n{sheet}")


def measured(file: Path, cache: Path, limit: int | None = None) -> tuple[float, float]:
    """Tokenise `file` and read every block once, in a process of its own.

    Returns (MiB that the process grew by at most, seconds). limit: bytes of data the process may grow by; beyond that
    the system refuses, and the process fails.
    """
    mine, theirs = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_tokenise, args=(file, cache, limit, theirs))
    process.start()
    theirs.close()
    try:
        grown, seconds = mine.recv()
    except EOFError as error:
        process.join()
        raise MemoryError(f"it ended with exit code {process.exitcode}") from error
    process.join()
    return grown, seconds


def _tokenise(file: Path, cache: Path, limit: int | None, answer: Connection) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is the parent's
    before, began = _kilobytes("VmHWM"), time.monotonic()
    if limit is not None:
        allowed = _kilobytes("VmData") * 1024 + limit
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
    torch.set_num_threads(1)
    corpus = PathCorpus(name="long", path=str(file))
    blocks = build(corpus, wordpiece(), "wordpiece", length=128, hub=None, cache=cache, progress=False)
    tokenised = _kilobytes("VmHWM") - before
    stream = iter(loader(blocks, seed=0, batch_size=64, first_sample=0))
    for _ in range(len(blocks.train) // 64):
        next(stream)
    # The memory map is the system's to take back: what is the process' own must not have grown by it.
    answer.send((max(tokenised, _kilobytes("RssAnon") - before) / 1024, time.monotonic() - began))


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> int:
    """Measure a short and a long text; exit code 1 if the long one takes more memory by half of its extra size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--limit", type=int, default=None, help="MiB of data that the process may grow by")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="streaming-") as folder:
        place = Path(folder)
        grown = {}
        print("| text, MB | grown by at most, MiB | seconds |\n|---:|---:|---:|")
        for megabytes in (20, chosen.megabytes):
            file = place / f"{megabytes}.txt"
            write_text(file, megabytes)
            limit = None if chosen.limit is None else chosen.limit * _MIB
            grown[megabytes], seconds = measured(file, place / f"cache-{megabytes}", limit)
            print(f"| {megabytes} | {grown[megabytes]:.0f} | {seconds:.0f} |", flush=True)
    return int(grown[chosen.megabytes] - grown[20] > 0.25 * chosen.megabytes)


if __name__ == "__main__":
    sys.exit(main())
