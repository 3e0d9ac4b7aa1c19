"""An ONNX file with int8 weights, and what that costs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from minilm_lab.data.splits import references
from minilm_lab.errors import LabError
from minilm_lab.exporting.forwards import Forward
from minilm_lab.exporting.reachable import splits_within_reach
from minilm_lab.exporting.sentences import SENTENCES
from minilm_lab.models.encoder import token_batches
from minilm_lab.models.pooling import Pooling, cosine
from minilm_lab.tasks.base import Task

log = logging.getLogger(__name__)

_LENGTH, _BATCH = 128, 32


@dataclass(frozen=True)
class Probe:
    """The texts on which two forms of a model are compared: pairs with a similarity that people gave, or texts."""

    texts: list[str]
    """Of pairs first all first texts, then all second ones."""
    pairs: list[float] | None
    """Similarity of text i and text n + i, for n pairs; None where the texts are no pairs."""
    name: str
    """What the card calls the data."""


@dataclass(frozen=True)
class Loss:
    """What int8 costs, measured on the probe."""

    data: str
    """Name of the data."""
    texts: int
    """Texts that were compared."""
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


class Compared(NamedTuple):
    """Embeddings of the same texts by two forwards, and how far their hidden states are apart at real tokens."""

    first: Tensor
    """(texts, width) float32."""
    second: Tensor
    """(texts, width) float32."""
    largest: float
    """Largest absolute difference of hidden states."""
    relative: float
    """Root mean square of the difference, as a share of that of the first's hidden states."""


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


def compare(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    pooling: Pooling,
    length: int,
    names: Sequence[str],
    first: Forward,
    second: Forward,
) -> Compared:
    """Embed `texts`, cut to `length` tokens, with both forwards, which take the inputs `names`."""
    vectors: list[list[Tensor]] = [[], []]
    order = []
    largest = difference = size = 0.0
    for rows, batch in token_batches(tokenizer, texts, length, _BATCH, pooling.prompt):
        mask = batch["attention_mask"]
        # A tokenizer that makes no token types means that all are 0.
        inputs = {name: batch.get(name, torch.zeros_like(mask)).numpy() for name in names}
        states = [torch.from_numpy(forward(inputs)) for forward in (first, second)]
        reference, apart = states[0].double(), (states[1].double() - states[0].double())[mask == 1]
        largest = max(largest, float(apart.abs().max()))
        difference += float((apart**2).sum())
        size += float((reference[mask == 1] ** 2).sum())
        for parts, hidden in zip(vectors, states, strict=True):
            parts.append(pooling(hidden, pooling.mask(mask, tokenizer)))
        order.append(rows)
    back = torch.cat(order).argsort()
    a, b = (torch.cat(parts)[back] for parts in vectors)
    return Compared(a, b, largest, (difference / size) ** 0.5)


def measure_loss(
    probe: Probe,
    tokenizer: PreTrainedTokenizerBase,
    pooling: Pooling,
    longest: int,
    names: list[str],
    exact: Forward,
    rounded: Forward,
) -> Loss:
    """Compare two forwards on the probe; `longest`: tokens that the model takes."""
    both = compare(probe.texts, tokenizer, pooling, min(_LENGTH, longest), names, exact, rounded)
    spearman = None
    if probe.pairs is not None:
        spearman = (_spearman(both.first, probe.pairs), _spearman(both.second, probe.pairs))
    cosines = cosine(both.first, both.second)
    return Loss(
        data=probe.name,
        texts=len(probe.texts),
        cosine_mean=float(cosines.mean()),
        cosine_min=float(cosines.min()),
        largest=both.largest,
        relative=both.relative,
        spearman=spearman,
    )


def _spearman(embeddings: Tensor, similarity: list[float]) -> float:
    from scipy.stats import spearmanr

    half = len(similarity)
    result: Any = spearmanr(cosine(embeddings[:half], embeddings[half:]).numpy(), similarity)
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
