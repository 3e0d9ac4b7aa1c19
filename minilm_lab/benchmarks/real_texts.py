"""Real texts for timing a forward: those of a task, or docstrings where its data is out of reach."""

from __future__ import annotations

import logging
from pathlib import Path

from minilm_lab import hub_access
from minilm_lab.data.docstrings import docstrings
from minilm_lab.errors import LabError
from minilm_lab.tasks.base import Examples, Task

log = logging.getLogger(__name__)

#: Docstrings are longer than this: so many characters give `count` of them.
_CHARACTERS = 2000


def training_texts(task: Task, count: int, hub: str | None, cache: Path) -> tuple[Examples, str]:
    """Up to `count` training examples of `task` in their order, and what a caption says of them.

    Without an answer from the hub and without paths.hub: docstrings of the installed packages.
    """
    path = str(getattr(task, "path", ""))
    try:
        splits = task.load(hub, cache)
    except LabError:
        elsewhere = hub is not None or Path(path).exists() or path.startswith((".", "/", "~"))
        if elsewhere or hub_access.answers(path, "dataset"):
            raise
        log.warning(
            "task=%s: %s is out of reach (no answer from the hub, paths.hub=null): docstrings are read instead",
            task.name,
            path,
        )
        texts = [text for text, _ in zip(docstrings(count * _CHARACTERS), range(count), strict=False)]
        examples = Examples([(t, None) for t in texts], [0] * len(texts), [str(n) for n in range(len(texts))])
        return examples, f"docstrings of the installed packages, in place of the training set of {task.name}"
    train = splits.train
    few = Examples(train.texts[:count], [0] * min(count, len(train)), train.ids[:count])
    note = f" ({splits.data_note})" if splits.data_note else ""
    return few, f"training set of {task.name}{note}"
