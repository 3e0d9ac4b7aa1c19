"""metrics.jsonl: one line a log step, flushed; the truth of which W&B is a mirror."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from minilm_lab.runs.files import write_atomically


def append(path: Path, line: dict[str, Any]) -> None:
    """Add one line and hand it to the operating system, so that a killed process loses nothing."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def rewind(path: Path, step: int) -> None:
    """Drop the lines after `step` and a line cut by a kill: the resumed run writes them again."""
    if not path.exists():
        return
    kept = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and int(line.get("step", 0)) <= step:
            kept.append(text)
    write_atomically(path, "".join(text + "\n" for text in kept).encode())
