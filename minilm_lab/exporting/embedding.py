"""Sentence embeddings by mean pooling, of a torch model or of an ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minilm_lab.tasks.batching import eval_batches
from minilm_lab.tasks.features import encode

#: Inputs by name, int64 (batch, length) -> last hidden states, float32 (batch, length, hidden).
Forward = Callable[[Mapping[str, np.ndarray]], np.ndarray]

_BATCH = 32


def of_torch(body: PreTrainedModel, names: Sequence[str]) -> Forward:
    """The forward of a torch model on the inputs `names`, in eval mode."""
    body.eval()

    def forward(batch: Mapping[str, np.ndarray]) -> np.ndarray:
        inputs = {name: torch.from_numpy(batch[name]) for name in names}
        with torch.inference_mode():
            return np.asarray(body(**inputs).last_hidden_state.float().numpy())

    return forward


def of_onnx(file: Path, names: Sequence[str], threads: int | None = None) -> Forward:
    """The forward of an ONNX file on the CPU. threads: null = torch's number."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def forward(batch: Mapping[str, np.ndarray]) -> np.ndarray:
        (hidden,) = session.run(None, {name: batch[name] for name in names})
        return np.asarray(hidden)

    return forward


@dataclass(frozen=True)
class Compared:
    """Embeddings of the same texts by two forwards, and how far their hidden states are apart at real tokens."""

    first: np.ndarray
    """(texts, hidden) float64, mean-pooled."""
    second: np.ndarray
    """(texts, hidden) float64, mean-pooled."""
    largest: float
    """Largest absolute difference of hidden states."""
    relative: float
    """Root mean square of the difference, as a share of that of the first's hidden states."""

    @property
    def cosines(self) -> np.ndarray:
        """(texts,): cosine between the two embeddings of each text."""
        return cosine(self.first, self.second)


def compare(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    names: Sequence[str],
    first: Forward,
    second: Forward,
) -> Compared:
    """Embed `texts`, cut to `length` tokens, with both forwards."""
    features = encode(tokenizer, texts, length=length)
    pooled: list[list[np.ndarray]] = [[], []]
    order: list[np.ndarray] = []
    largest = difference = size = 0.0
    for batch in eval_batches(features, _BATCH):
        inputs = complete({name: tensor.numpy() for name, tensor in batch.items()}, names)
        real = inputs["attention_mask"].astype(bool)
        hidden = [forward(inputs).astype(np.float64) for forward in (first, second)]
        apart = (hidden[1] - hidden[0])[real]
        largest = max(largest, float(np.abs(apart).max()))
        difference += float((apart**2).sum())
        size += float((hidden[0][real] ** 2).sum())
        for kept, states in zip(pooled, hidden, strict=True):
            kept.append(mean_pool(states, real))
        order.append(inputs["index"])
    back = np.argsort(np.concatenate(order))
    a, b = (np.concatenate(kept)[back] for kept in pooled)
    return Compared(a, b, largest, float(np.sqrt(difference / size)))


def complete(batch: dict[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Add what the model takes and the tokenizer did not make: token types, all 0."""
    missing = {name: np.zeros_like(batch["input_ids"]) for name in names if name not in batch}
    return {**batch, **missing}


def mean_pool(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean of `hidden` (batch, length, width) over the tokens where `mask` (batch, length) is true."""
    weights = mask[:, :, None].astype(hidden.dtype)
    return np.asarray((hidden * weights).sum(axis=1) / weights.sum(axis=1))


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of corresponding rows of two (rows, width) matrices."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(axis=1) / norms)
