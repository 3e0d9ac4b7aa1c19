"""Sentence embeddings of a body: the mean of the hidden states over the real tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minilm_lab.tasks.base import Examples
from minilm_lab.tasks.batching import eval_batches
from minilm_lab.tasks.features import featurize
from minilm_lab.tasks.heads import inputs


def embed(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[tuple[str, str | None]],
    *,
    length: int = 128,
    batch_size: int = 128,
    layer: int = -1,
) -> Tensor:
    """Return (texts, hidden size) float32 on the CPU, one row a text or pair, in their order; all are
    texts, or all are pairs.

    model: a body, or a model with a head, whose body is read; it runs in eval mode without gradients, on the
    device where it is, and is left in the mode it was in. No random number is drawn.
    length: tokens, longer texts are cut. layer: of the library's hidden states, 0 = embeddings, −1 = the last.
    """
    features = featurize(Examples(list(texts), [0] * len(texts), [""] * len(texts)), tokenizer, length=length)
    body: Any = model.base_model
    rows: Tensor | None = None
    with _reading(model):
        for batch in eval_batches(features, batch_size):
            on_device = {k: v.to(body.device) for k, v in batch.items() if k not in ("index", "labels")}
            states = body(**inputs(body, on_device), output_hidden_states=True).hidden_states[layer]
            means = mean_pool(states.float(), on_device["attention_mask"]).cpu()
            if rows is None:
                rows = torch.empty(len(features), means.shape[1])
            rows[batch["index"]] = means
    assert rows is not None, "there are texts"
    return rows


def mean_pool(states: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real tokens: states (batch, length, hidden), mask (batch, length) 1 = real -> (batch, hidden)."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def cosine(left: Tensor, right: Tensor) -> np.ndarray:
    """Cosine of each row of `left` and the same row of `right`, float64."""
    return torch.nn.functional.cosine_similarity(left.double(), right.double(), dim=1).numpy()


@contextmanager
def _reading(model: PreTrainedModel) -> Iterator[None]:
    """Eval mode without gradients; afterwards every module is in the mode it was in."""
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in before.items():
            module.training = mode
