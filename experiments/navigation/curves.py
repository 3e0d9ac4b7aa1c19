"""Curves of several runs of evaluator=navigation in one picture: python experiments/navigation/curves.py OUT.png NAME=RUN …"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from minilm_lab.studies.knowledge.pictures import found_curves


def curve(folder: str) -> np.ndarray:
    """Distinct right answers after 1, 2, … answers."""
    with (Path(folder) / "curve.csv").open(encoding="utf-8") as file:
        return np.array([float(row["distinct right"]) for row in csv.DictReader(file)])


def main() -> None:
    given = dict(argument.split("=", 1) for argument in sys.argv[2:])
    found_curves({name: curve(folder) for name, folder in given.items()}).png(sys.argv[1])


if __name__ == "__main__":
    main()
