"""How long a forward of several models takes, in several backends, in turns over batches of real texts."""

from __future__ import annotations

import logging
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from minilm_lab.benchmarks.backends import BACKENDS, Run, make
from minilm_lab.benchmarks.subjects import Subject
from minilm_lab.errors import LabError, first_line, nearest
from minilm_lab.exporting.forwards import in_turns
from minilm_lab.exporting.graph import input_names
from minilm_lab.models.encoder import Text

log = logging.getLogger(__name__)

#: Rounds that are not counted: a compiled model meets a new length, memory is found.
WARM_UP = 2


@dataclass
class Timing:
    """What is timed."""

    name: str = ""
    """Name of the settings, which captions say; not part of a run's identity."""
    models: list[str] = field(default_factory=list)
    """<layers>x<hidden size> (random weights), `teacher`, a folder or a hub id; the first counts as 1."""
    backends: list[str] = field(default_factory=lambda: ["torch"])
    """torch (eager), compile (torch.compile), onnx (ONNX Runtime, float32), onnx_int8 (int8 weights)."""
    batches: int = 100
    """Batches that are timed, after two that are not."""
    batch_size: int = 64
    """Texts a batch."""
    length: int = 128
    """Longest input in tokens; a batch is padded to its longest text."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the caption; not part of a run's identity."""
    paper: dict[str, Any] = field(default_factory=dict)
    """Model -> {embeddings, transformer: millions of parameters, speedup} of a paper; not part of a run's identity."""
    paper_source: str = ""
    """Where the paper's numbers stand."""

    def __post_init__(self) -> None:
        for name in ("batches", "batch_size"):
            if getattr(self, name) < 1:
                raise LabError(f"timing.{name}={getattr(self, name)} must be 1 or more")
        if self.length < 8:
            raise LabError(f"timing.length={self.length}: give 8 tokens or more")
        for name, known in (("models", None), ("backends", BACKENDS)):
            given = getattr(self, name)
            if not given or len(set(given)) != len(given):
                raise LabError(f"timing.{name}={given}: give one or more, each once")
            for each in given:
                if known is not None and each not in known:
                    raise LabError(
                        f"timing.{name} has '{each}'; there are: {', '.join(known)}.{nearest(each, known)}"
                    )

    @property
    def texts(self) -> int:
        """Texts that are read."""
        return (WARM_UP + self.batches) * self.batch_size


def measure(
    subjects: Mapping[str, Subject], texts: Sequence[Text], timing: Timing, devices: Sequence[torch.device]
) -> dict[str, Any]:
    """Time every subject in every backend and device over the same texts, all in turns.

    Returns plain data: `seconds` and `ratio` (of the first subject's seconds to this one's, batch by batch; above 1
    is faster), each model -> "<backend>_<device>" -> {median, low, high} (10th and 90th percentile), and `missing`:
    why others are not there. ONNX Runtime is timed on the CPU.
    """
    runs: dict[tuple[str, str], Callable[[int], object]] = {}
    missing: dict[str, str] = {}
    tokens = 0
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, subject) in enumerate(subjects.items()):
            body = subject.load().eval()
            if hasattr(body, "pooler"):
                body.pooler = None  # a Transformer is timed, in all backends
            names = input_names(body, subject.tokenizer)
            batches = batches_of(texts, subject.tokenizer, names, timing)
            tokens = tokens or sum(int(b["attention_mask"].sum()) for b in batches[WARM_UP:])
            for key, made in make(body, names, timing.backends, devices, Path(scratch) / str(number)):
                log.info("%s: preparing %s", name, key)
                run = _tried(made, batches, key, name, missing)
                if run is not None:
                    runs[name, key] = partial(_forward, run, batches)
        seconds = in_turns(runs, timing.batches, warm_up=WARM_UP, title="speed")
    first = next(iter(subjects))
    record: dict[str, Any] = {"seconds": {}, "ratio": {}, "missing": missing, "tokens": tokens}
    for name in subjects:
        of_model = {key: taken for (model, key), taken in seconds.items() if model == name}
        record["seconds"][name] = {key: _spread(taken) for key, taken in of_model.items()}
        record["ratio"][name] = {
            key: _spread([theirs / ours for theirs, ours in zip(seconds[first, key], taken, strict=True)])
            for key, taken in of_model.items()
            if (first, key) in seconds
        }
    return record


def batches_of(
    texts: Sequence[Text], tokenizer: PreTrainedTokenizerBase, names: Sequence[str], timing: Timing
) -> list[dict[str, np.ndarray]]:
    """The inputs of each batch, int64 (texts, tokens), in the order of the texts."""
    pairs = [(text, None) if isinstance(text, str) else text for text in texts]
    batches = []
    for start in range(0, timing.texts, timing.batch_size):
        first, second = zip(*pairs[start : start + timing.batch_size], strict=True)
        batch = tokenizer(
            list(first),
            None if None in second else list(second),
            truncation="longest_first",
            max_length=timing.length,
            padding="longest",
            return_tensors="np",
        )
        # A tokenizer that makes no token types means that all are 0.
        nothing = np.zeros_like(batch["input_ids"])
        batches.append({name: batch.get(name, nothing).astype(np.int64) for name in names})
    return batches


def _forward(run: Run, batches: Sequence[Mapping[str, np.ndarray]], turn: int) -> None:
    run(batches[turn])


def _tried(
    made: Callable[[], Run],
    batches: Sequence[Mapping[str, np.ndarray]],
    key: str,
    name: str,
    missing: dict[str, str],
) -> Run | None:
    """The backend, after it took a batch; None, with the reason in `missing`, where it cannot be had here."""
    try:
        run = made()
        run(batches[0])
    except (
        Exception
    ) as error:  # compilers and exporters raise types of their own: a dash in the table, not an end
        reason = first_line(error)
        missing[key] = reason if isinstance(error, LabError) else f"{name}: {type(error).__name__}: {reason}"
        log.warning("%s is left out: %s", key, missing[key])
        return None
    return run


def _spread(values: Sequence[float]) -> dict[str, float]:
    low, high = np.percentile(values, [10, 90])
    return {"median": statistics.median(values), "low": float(low), "high": float(high)}
