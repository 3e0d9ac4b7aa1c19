"""How long a forward of several models takes, in several backends, in turns over batches of real texts."""

from __future__ import annotations

import logging
import re
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minilm_lab.benchmarks.backends import BACKENDS, Run, make
from minilm_lab.errors import LabError, nearest
from minilm_lab.exporting.embedding import complete
from minilm_lab.exporting.graph import input_names
from minilm_lab.models.speed import in_turns
from minilm_lab.tasks.base import Examples
from minilm_lab.tasks.batching import collate
from minilm_lab.tasks.features import featurize

log = logging.getLogger(__name__)

_SHAPE = re.compile(r"([1-9]\d*)x([1-9]\d*)")
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


def shape_of(model: str) -> tuple[int, int] | None:
    """(layers, hidden size) of an entry of `Timing.models`, or None where it is no shape."""
    found = _SHAPE.fullmatch(model)
    return None if found is None else (int(found[1]), int(found[2]))


@dataclass(frozen=True)
class Subject:
    """A model that is timed."""

    load: Callable[[], PreTrainedModel]
    """Its body in float32."""
    tokenizer: PreTrainedTokenizerBase


def measure(
    subjects: Mapping[str, Subject], examples: Examples, timing: Timing, devices: Sequence[torch.device]
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
            batches = batches_of(examples, subject.tokenizer, names, timing)
            tokens = tokens or sum(int(b["attention_mask"].sum()) for b in batches[WARM_UP:])
            for key, made in make(body, names, timing.backends, devices, Path(scratch) / str(number)):
                log.info("%s: preparing %s", name, key)
                run = _tried(made, batches, key, name, missing)
                if run is not None:
                    runs[name, key] = partial(_forward, run, batches)
        seconds = in_turns(runs, timing.batches, warm_up=WARM_UP, title="speed")
    first = next(iter(subjects))
    told: dict[str, Any] = {"seconds": {}, "ratio": {}, "missing": missing, "tokens": tokens}
    for name in subjects:
        own = {key: taken for (model, key), taken in seconds.items() if model == name}
        told["seconds"][name] = {key: _spread(taken) for key, taken in own.items()}
        told["ratio"][name] = {
            key: _spread([theirs / ours for theirs, ours in zip(seconds[first, key], taken, strict=True)])
            for key, taken in own.items()
            if (first, key) in seconds
        }
    return told


def batches_of(
    examples: Examples, tokenizer: PreTrainedTokenizerBase, names: Sequence[str], timing: Timing
) -> list[dict[str, np.ndarray]]:
    """The inputs of each batch, int64 (texts, tokens), in the order of the data."""
    features = featurize(examples, tokenizer, length=timing.length)
    rows = np.arange(len(features))
    batches = []
    for start in range(0, timing.texts, timing.batch_size):
        batch = collate(features, rows[start : start + timing.batch_size])
        inputs = complete({name: tensor.numpy() for name, tensor in batch.items()}, names)
        batches.append({name: inputs[name] for name in names})
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
        reason = (str(error).strip().splitlines() or [""])[0]
        missing[key] = (
            f"{name}: {type(error).__name__}: {reason}" if not isinstance(error, LabError) else reason
        )
        log.warning("%s is left out: %s", key, missing[key])
        return None
    return run


def _spread(values: Sequence[float]) -> dict[str, float]:
    low, high = np.percentile(values, [10, 90])
    return {"median": statistics.median(values), "low": float(low), "high": float(high)}


def sized(timing: Timing, examples: Examples) -> Examples:
    """The first examples, as many as are timed; repeated from the start where there are too few."""
    rows = [n % len(examples) for n in range(timing.texts)]
    return replace(
        examples,
        texts=[examples.texts[n] for n in rows],
        labels=[0] * len(rows),
        ids=[str(n) for n in range(len(rows))],
        gold=None,
        groups=None,
    )
