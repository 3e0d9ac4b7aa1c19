"""Rows a second and memory of turning MerRec's files into numbers: the lab's way and pandas', in turns on the same machine.

    python experiments/merrec_speed/prepare.py [users=20000] [turns=3] [memory=2GB] [threads=2] [pandas=true]

A generated month is written first. Both read the files, number users, items, titles and sessions, drop duplicates, sort by user and
time, and write parquet; pandas holds all of it, which is the common approach. Each turn is a process of its own, whose largest
resident memory and processor time (start of Python included) are read from the system at its end: on a machine that others use, that
time says more than the clock. The lab also checks every cell, which pandas' way does not. Generated: measures the machinery and claims nothing about Mercari.
"""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def ours(files: Path, out: Path, memory: str, threads: int) -> int:
    from minilm_lab.studies.merrec import prepare, schema

    return prepare.prepare(schema.shards(files), out, out / "spill", memory=memory, threads=threads).events


def pandas(files: Path, out: Path) -> int:
    import pandas as pd

    rows = pd.concat([pd.read_parquet(file) for file in sorted(files.rglob("*.parquet"))], ignore_index=True)
    rows = rows.drop_duplicates(["user_id", "session_id", "stime", "item_id", "event_id"])
    rows = rows.sort_values(["user_id", "stime"], kind="stable")
    items = rows.drop_duplicates("item_id").sort_values("item_id").copy()
    items["title"], titles = pd.factorize(items["name"], sort=True)
    items["product"] = pd.factorize(items["product_id"], sort=True)[0]
    items["events"] = items["item_id"].map(rows.groupby("item_id").size())
    events = pd.DataFrame(
        {
            "user": pd.factorize(rows["user_id"], sort=True)[0],
            "item": pd.factorize(rows["item_id"], sort=True)[0],
            "session": rows.groupby(["user_id", "session_id"], sort=True).ngroup(),
            "time": rows["stime"].astype("datetime64[s]").astype("int64"),
            "kind": rows["event_id"].astype("category").cat.codes,
        }
    )
    events.to_parquet(out / "events.parquet")
    items.drop(columns=["user_id", "stime", "session_id", "event_id"]).to_parquet(out / "items.parquet")
    pd.DataFrame({"name": titles}).to_parquet(out / "titles.parquet")
    return len(events)


def turn(way: str, files: Path, memory: str, threads: int) -> dict[str, float]:
    """One turn in a process of its own: rows, seconds, MiB."""
    words = [sys.executable, __file__, "turn", way, str(files), memory, str(threads)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(settings: dict[str, str]) -> None:
    from minilm_lab.studies.merrec import GENERATED
    from minilm_lab.studies.merrec.generator import Settings, generate

    memory, threads = settings.get("memory", "2GB"), int(settings.get("threads", "2"))
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "files"
        begin = time.perf_counter()
        rows = generate(Settings(users=int(settings.get("users", "20000"))), files)
        size = sum(file.stat().st_size for file in files.rglob("*.parquet"))
        print(
            f"{rows:,} rows generated in {time.perf_counter() - begin:.0f} s, {size / 2**20:.0f} MiB; {GENERATED}"
        )
        ways = ["lab", "pandas"] if settings.get("pandas", "true") == "true" else ["lab"]
        turns: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(int(settings.get("turns", "3"))):
            for way in ways:
                turns[way].append(turn(way, files, memory, threads))
        for way, of in turns.items():
            wall, cpu = (statistics.median(turn[name] for turn in of) for name in ("seconds", "cpu"))
            print(
                f"{way}: {rows / wall:,.0f} rows/s, {rows / cpu:,.0f} a second of processor time (medians of {len(of)} turns), "
                f"{max(turn['mebibytes'] for turn in of):,.0f} MiB resident at most"
            )
        if len(ways) == 2:
            for name, what in (("seconds", "time"), ("cpu", "processor time")):
                ratios = [b[name] / a[name] for a, b in zip(turns["lab"], turns["pandas"], strict=True)]
                shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
                print(f"pandas takes {statistics.median(ratios):.2f} times the {what} (turns: {shown})")


if __name__ == "__main__":
    if sys.argv[1:2] == ["turn"]:
        way, files, memory, threads = sys.argv[2:6]
        out = Path(tempfile.mkdtemp())
        begin = time.perf_counter()
        rows = ours(Path(files), out, memory, int(threads)) if way == "lab" else pandas(Path(files), out)
        seconds = time.perf_counter() - begin
        shutil.rmtree(out)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        spent = usage.ru_utime + usage.ru_stime
        print(
            json.dumps({"rows": rows, "seconds": seconds, "cpu": spent, "mebibytes": usage.ru_maxrss / 1024})
        )
    else:
        main(dict(word.split("=", 1) for word in sys.argv[1:]))
