"""An ONNX file with int8 weights, and what that costs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from minilm_lab.data.splits import references
from minilm_lab.errors import LabError
from minilm_lab.exporting.embedding import Forward, compare, cosine
from minilm_lab.exporting.reachable import splits_within_reach
from minilm_lab.exporting.sentences import SENTENCES
from minilm_lab.tasks.base import Task

log = logging.getLogger(__name__)

_LENGTH = 128


@dataclass(frozen=True)
class Probe:
    """The texts on which two forms of a model are compared: pairs with a similarity that people gave, or texts."""

    texts: list[str]
    pairs: list[float] | None
    """Similarity of text i and text n + i, for n pairs; None where the texts are no pairs."""
    name: str
    """What the card calls the data."""


@dataclass(frozen=True)
class Loss:
    """What int8 costs, measured on the probe."""

    data: str
    texts: int
    cosine_mean: float
    """Cosine between the float and the int8 embedding of a text, mean over the texts."""
    cosine_min: float
    """The same, smallest."""
    largest: float
    """Largest absolute difference of hidden states at real tokens."""
    relative: float
    """Root mean square of that difference, as a share of that of the hidden states."""
    spearman: tuple[float, float] | None
    """100 x Spearman correlation of the cosine of two embeddings with the pair's similarity: float, int8."""


def check_task(task: Task) -> None:
    """Raise LabError unless the task is one of pairs of texts with a similarity."""
    if task.kind != "regression" or len(getattr(task, "text", [])) != 2:
        raise LabError(
            f"task={task.name}: int8 is measured on pairs of texts with a similarity: task=stsb, or "
            "task=regression task.path=<hub id or folder> task.text=[<first>,<second>] task.label=<similarity>"
        )


def load_probe(task: Task, hub: str | None, cache: Path) -> Probe:
    """The dev pairs of `task`; where its data is on a hub that does not answer, sentences of the lab's own."""
    splits = splits_within_reach(task, hub, cache)
    if splits is None:
        log.warning(
            "task=%s: %s is out of reach (no answer from the hub, paths.hub=null): int8 is compared with float on %d "
            "sentences, without a score",
            task.name,
            getattr(task, "path", "its data"),
            len(SENTENCES),
        )
        return Probe(list(SENTENCES), None, f"{len(SENTENCES)} sentences of minilm-lab")
    dev = splits.dev
    texts = [*dev["text"][:], *dev["pair"][:]]
    note = f" ({splits.data_note})" if splits.data_note else ""
    return Probe(texts, [float(x) for x in references(dev)], f"{task.name} dev, {len(dev):,} pairs{note}")


def write_int8(source: Path, file: Path) -> None:
    """Quantise the weights of an ONNX file to int8, one scale a column; activations are quantised as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    file.parent.mkdir(parents=True, exist_ok=True)
    with _quiet():
        quantize_dynamic(source, file, per_channel=True, weight_type=QuantType.QInt8)


def measure_loss(
    probe: Probe,
    tokenizer: PreTrainedTokenizerBase,
    longest: int,
    names: list[str],
    exact: Forward,
    rounded: Forward,
) -> Loss:
    """Compare two forwards on the probe; `longest`: tokens that the model takes."""
    found = compare(probe.texts, tokenizer, min(_LENGTH, longest), names, exact, rounded)
    spearman = None
    if probe.pairs is not None:
        spearman = (_spearman(found.first, probe.pairs), _spearman(found.second, probe.pairs))
    return Loss(
        data=probe.name,
        texts=len(probe.texts),
        cosine_mean=float(found.cosines.mean()),
        cosine_min=float(found.cosines.min()),
        largest=found.largest,
        relative=found.relative,
        spearman=spearman,
    )


def _spearman(embeddings: np.ndarray, similarity: list[float]) -> float:
    from scipy.stats import spearmanr

    half = len(similarity)
    result: Any = spearmanr(cosine(embeddings[:half], embeddings[half:]), similarity)
    return 100 * float(result.statistic)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # The quantiser asks on the root logger for a preparation that the exporter's optimiser has done already.
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
