"""Does bucketing by length cost accuracy? The lab's fine-tuning with and without it, on the same seeds.

Without: groups of one batch, so that a batch is a random draw. All else is equal: weights, examples, steps, rates.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from compare import lab

from minilm_lab.data import loading
from minilm_lab.runs.environment import describe

GROUPS = {"bucketed": loading.BATCHES_PER_GROUP, "random": 1}


def main() -> None:
    """Fine-tune in turns and write every score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2,3", help="with commas between")
    parser.add_argument("--out", default="buckets.json", help="where the figures go")
    parser.add_argument(
        "overrides", nargs="*", default=["task=sst2", "source=teacher"], help="of minilm-lab finetune"
    )
    args = parser.parse_args()
    seeds = args.seeds.split(",")
    if len(seeds) < 2:
        parser.error("--seeds: give two or more, their spread is the standard error")
    scores: dict[str, list[float]] = {name: [] for name in GROUPS}
    seconds: dict[str, list[float]] = {name: [] for name in GROUPS}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in seeds:
            for name, group in GROUPS.items():
                own = [
                    f"tune.seed={seed}",
                    "logger=none",
                    f"paths.runs={scratch}/{name}",
                    f"paths.cache={scratch}/cache",
                ]
                loading.BATCHES_PER_GROUP = group
                took, got = lab([*args.overrides, *own])
                scores[name].append(round(got, 2))
                seconds[name].append(round(took, 1))
                print(f"seed {seed}, {name}: {got:.1f} in {took:.0f} s", flush=True)
    differences = [a - b for a, b in zip(scores["bucketed"], scores["random"], strict=True)]
    found = {
        "overrides": args.overrides,
        "seeds": args.seeds,
        "difference": round(statistics.mean(differences), 2),
        "standard_error": round(statistics.stdev(differences) / len(differences) ** 0.5, 2),
        "scores": scores,
        "seconds": seconds,
        **describe(),
    }
    Path(args.out).write_text(json.dumps(found, indent=2) + "\n")
    print(f"bucketed − random: {found['difference']} ± {found['standard_error']} points")


if __name__ == "__main__":
    main()
