"""Does bucketing by length cost accuracy? The lab's fine-tuning with and without it, on the same seeds.

Without: groups of one batch, so that a batch is a random draw. All else is equal: weights, examples, steps, rates.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
import transformers

from minilm_lab.commands.composing import compose_command
from minilm_lab.commands.finetune import finetune, plan
from minilm_lab.runs.environment import commit
from minilm_lab.tasks import batching

GROUPS = {"bucketed": batching.BATCHES_PER_GROUP, "random": 1}


def score(given: list[str], group: int) -> tuple[float, float]:
    """Score on dev and seconds of one fine-tuning whose examples are sorted within `group` batches."""
    ready = plan(compose_command("finetune", given))
    batching.BATCHES_PER_GROUP = group
    began = time.perf_counter()
    record = finetune(ready)
    return float(record["score"]["value"]), time.perf_counter() - began


def main() -> None:
    """Fine-tune in turns and write every score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2,3", help="with commas between")
    parser.add_argument("--out", default="buckets.json", help="where the figures go")
    parser.add_argument(
        "overrides", nargs="*", default=["task=sst2", "source=teacher"], help="of minilm-lab finetune"
    )
    args = parser.parse_args()
    scores: dict[str, list[float]] = {name: [] for name in GROUPS}
    seconds: dict[str, list[float]] = {name: [] for name in GROUPS}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in args.seeds.split(","):
            for name, group in GROUPS.items():
                own = [
                    f"tune.seed={seed}",
                    "logger=none",
                    f"paths.runs={scratch}/{name}",
                    f"paths.cache={scratch}/cache",
                ]
                got, took = score([*args.overrides, *own], group)
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
        "commit": commit(),
        "device": platform.machine(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    Path(args.out).write_text(json.dumps(found, indent=2) + "\n")
    print(f"bucketed − random: {found['difference']} ± {found['standard_error']} points")


if __name__ == "__main__":
    main()
