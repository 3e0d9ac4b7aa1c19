"""What an evaluation gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Result:
    """Scores of a model on one set of data, and what they were computed from."""

    scores: dict[str, float]
    """Metric -> value, on the papers' scale (0 to 100) where it is a share; empty where nobody knows the answers."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """The predictions, one a line of predictions.jsonl."""
    files: dict[str, str] = field(default_factory=dict)
    """Further files: name -> text (a format that an official script or a leaderboard reads)."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What a reader of the record should know: a threshold, counts."""
