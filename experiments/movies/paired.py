"""AUC and NDCG of one run of evaluator=new_releases less those of another, paired over users, in points.

python experiments/movies/paired.py RUN OTHER     # two folders of runs on the same data and split
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from minilm_lab.studies.recommendation.ranking import METRICS, interval


def rows(folder: str) -> dict[str, dict[str, float]]:
    """User -> metrics."""
    lines = (Path(folder) / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return {str(row["user"]): row for row in map(json.loads, lines)}


def main() -> None:
    first, second = (rows(folder) for folder in sys.argv[1:3])
    if set(first) != set(second):
        sys.exit(f"The two judged other users ({len(first)} and {len(second)}): give runs of one split.")
    for metric in METRICS:
        gaps = 100 * np.asarray([first[user][metric] - second[user][metric] for user in first])
        low, high = interval(gaps, seed=0)
        print(f"{metric}: {gaps.mean():+.1f} [{low:+.1f}, {high:+.1f}] over {len(gaps)} users")


if __name__ == "__main__":
    main()
