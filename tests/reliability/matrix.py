"""The whole crash matrix: `python -m tests.reliability.matrix --cases 5` from the checkout prints its table.

Each case disturbs a tiny run, starts the same command again and compares with an undisturbed run: final weights bit
for bit, metrics.jsonl without gaps or doubles, record, no file and no process left over.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lab import Lab

from reliability.crashes import CannotRun, Case, cases, try_case
from reliability.scene import Material


def main() -> int:
    """Run it; exit code 1 if a case did not survive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cases", type=int, default=1, help="times that each case is tried, with other numbers"
    )
    parser.add_argument("--only", default="", help="part of a family or name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    wanted = [case for case in cases() if chosen.only in f"{case.family}, {case.name}"]
    began = time.monotonic()
    tried: Counter[tuple[str, str]] = Counter()
    survived: Counter[tuple[str, str]] = Counter()
    skipped: dict[tuple[str, str], str] = {}
    with tempfile.TemporaryDirectory(prefix="crash-matrix-") as folder:
        place = Path(folder)
        material = Material(place / "material", _lab(place))
        for case in wanted:
            material.whole(case.words(material))

        def attempt(number: int, case: Case, seed: int) -> tuple[Case, list[str], str | None]:
            try:
                return case, try_case(case, material, place / f"case-{number}", seed), None
            except CannotRun as error:
                return case, [], str(error)
            except Exception as error:  # of the case itself: it counts as not survived
                return case, [f"{type(error).__name__}: {error}"], None

        jobs = [(case, seed) for seed in range(chosen.seed, chosen.seed + chosen.cases) for case in wanted]
        with ThreadPoolExecutor(chosen.jobs) as pool:
            waiting = [pool.submit(attempt, n, case, seed) for n, (case, seed) in enumerate(jobs)]
            for done in waiting:
                case, notes, reason = done.result()
                key = (case.family, case.name)
                if reason is not None:
                    skipped[key] = reason
                    continue
                tried[key] += 1
                survived[key] += not notes
                print(
                    f"{'ok' if not notes else 'BAD'}  {case.family}, {case.name}", file=sys.stderr, flush=True
                )
                for note in notes:
                    print(f"{case.family}, {case.name}: {note}", file=sys.stderr, flush=True)
    print("| disturbance | case | tried | survived |\n|---|---|---:|---:|")
    for case in wanted:
        key = (case.family, case.name)
        told = f"{tried[key]} | {survived[key]}" if tried[key] else f"0 | cannot run here: {skipped.get(key)}"
        print(f"| {case.family} | {case.name} | {told} |")
    total, good = sum(tried.values()), sum(survived.values())
    print(f"| **all** | | **{total}** | **{good}** |\n")
    print(f"{time.monotonic() - began:.0f} s, {chosen.jobs} at a time")
    return int(good < total)


def _lab(place: Path) -> Lab:
    scratch = place / "lab"
    scratch.mkdir()
    return Lab(scratch)


if __name__ == "__main__":
    sys.exit(main())
