"""Distinct right answers of one run of evaluator=navigation minus those of another, prompt by prompt.

python experiments/navigation/paired.py RUN OTHER     # two folders of runs; the lists that both asked for
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from minilm_lab.studies.knowledge.matched import bootstrap


def main() -> None:
    first, second = (
        json.loads((Path(folder) / "result.json").read_text(encoding="utf-8"))["details"][
            "distinct_by_prompt"
        ]
        for folder in sys.argv[1:3]
    )
    names = [name for name in first if name in second]
    differences = np.array([first[name] - second[name] for name in names])
    interval = bootstrap(differences[None], np.ones((1, len(names))))
    print(
        f"{interval.value:+.1f} [{interval.low:+.1f}, {interval.high:+.1f}] over {len(names)} lists; "
        f"more in {int((differences > 0).sum())}, fewer in {int((differences < 0).sum())}"
    )


if __name__ == "__main__":
    main()
