"""Real texts for timing a forward: those of a task, or docstrings where its data is out of reach."""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path

from minilm_lab.data.docstrings import docstrings
from minilm_lab.data.splits import texts as texts_of
from minilm_lab.exporting.reachable import splits_within_reach
from minilm_lab.models.encoder import Text
from minilm_lab.tasks.base import Task

log = logging.getLogger(__name__)

#: Docstrings are longer than this: so many characters give `count` of them.
_CHARACTERS = 2000


def training_texts(task: Task, count: int, hub: str | None, cache: Path) -> tuple[list[Text], str]:
    """`count` training texts of `task` in their order (from the start again where there are too few), and what a
    caption says of them.

    Without an answer from the hub and without paths.hub: docstrings of the installed packages.
    """
    splits = splits_within_reach(task, hub, cache)
    texts: list[Text]
    if splits is None:
        log.warning(
            "task=%s: its data is out of reach (no answer from the hub, paths.hub=null): docstrings are read instead",
            task.name,
        )
        texts = [(text, None) for text in islice(docstrings(count * _CHARACTERS), count)]
        data = f"docstrings of the installed packages, in place of the training set of {task.name}"
    else:
        texts = list(islice(texts_of(splits.train), count))
        data = f"training set of {task.name}" + (f" ({splits.data_note})" if splits.data_note else "")
    return [texts[number % len(texts)] for number in range(count)], data
