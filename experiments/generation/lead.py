"""The score of copying the beginning of the source: what every generated text should beat.

    python experiments/generation/lead.py task=xsum paths.hub=<folder> [any other override of `minilm-lab finetune`]

Scores on the same examples and with the same metrics as the task: the first sentence of each source, and its first
words, as many as the references have on average (in whole words).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from minilm_lab import config
from minilm_lab.commands.composing import compose_command
from minilm_lab.data.splits import references, texts
from minilm_lab.tasks.generation import scores
from minilm_lab.tasks.generation.task import GenerationTask


def main(overrides: list[str]) -> None:
    """Print the scores of each split."""
    cfg = compose_command("finetune", overrides)
    task = config.build(cfg.task, "task")
    assert isinstance(task, GenerationTask)
    splits = task.load(cfg.paths.hub, Path(cfg.paths.cache))
    print(splits.data_note)
    for name, split in splits.judged.items():
        sources = [" ".join(part for part in parts if part) for parts in texts(split)]
        lengths = [len(text.split()) for right in references(split) for text in right]
        count = round(sum(lengths) / len(lengths))
        leads = {
            "first sentence": [re.split(r"(?<=[.!?])\s+|\n+", text.strip())[0] for text in sources],
            f"first {count} words": [" ".join(text.split()[:count]) for text in sources],
        }
        for what, hypotheses in leads.items():
            found = scores.score(task.metrics, hypotheses, references(split))
            shown = ", ".join(f"{metric} {value:.2f}" for metric, value in found.items())
            print(f"{name} ({len(split)} examples), {what}: {shown}")


if __name__ == "__main__":
    main(sys.argv[1:])
