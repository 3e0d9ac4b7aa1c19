"""Which layers of a teacher its student starts from, measured on text before anything is trained."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, cast

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from minilm_lab.models.encoder import evaluating
from minilm_lab.models.families import family_of
from minilm_lab.models.pooling import cosine, pool

log = logging.getLogger(__name__)

Texts = Sequence[tuple[Tensor, Tensor]]
"""Batches of (input ids, mask), each (batch, length), int64 and bool (true = real token)."""
EXHAUSTIVE = 100
"""So many choices of layers are all tried; of more, layers are taken away one at a time."""


@dataclass(frozen=True)
class Choice:
    """Layers of a teacher, from 1, ascending, and what they were chosen by."""

    layers: list[int]
    scores: dict[str, float]
    """search: the choice's layers -> mean cosine, the best 10; influence: layer -> influence."""


def choose_layers(rule: str, body: PreTrainedModel, depth: int, texts: Texts) -> Choice:
    """Choose `depth` layers of `body`.

    search: those whose model, untrained, gives the sentence vectors (mean of the last hidden states) nearest to the
    whole body's by their mean cosine. All choices are tried where there are at most 100; else the layer that costs
    least is taken away, again and again.
    influence: those that change the residual stream most, 1 - cos(input, output) of a block, mean over tokens (block
    influence of ShortGPT, arXiv 2403.03853, eq. 1).
    """
    with evaluating(body):
        return _by_influence(body, depth, texts) if rule == "influence" else _by_search(body, depth, texts)


def _by_search(body: PreTrainedModel, depth: int, texts: Texts) -> Choice:
    whole = len(family_of(body.config).blocks(body))
    target = _vectors(body, range(1, whole + 1), texts)
    scores: dict[tuple[int, ...], float] = {}
    exhaustive = math.comb(whole, depth) <= EXHAUSTIVE
    trials = math.comb(whole, depth) if exhaustive else sum(range(depth + 1, whole + 1))
    with tqdm(desc="choosing layers", total=trials, unit="choice", leave=False) as bar:

        def best(choices: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
            tried = list(choices)
            for layers in tried:
                scores[layers] = float(cosine(_vectors(body, layers, texts), target).mean())
                bar.update()
            return max(tried, key=lambda layers: scores[layers])

        kept = tuple(range(1, whole + 1))
        if exhaustive:
            kept = best(combinations(kept, depth))
        else:
            while len(kept) > depth:
                kept = best(combinations(kept, len(kept) - 1))
    ranked = sorted((n for n in scores if len(n) == depth), key=lambda n: -scores[n])[:10]
    return Choice(list(kept), {", ".join(map(str, n)): scores[n] for n in ranked})


def _vectors(body: PreTrainedModel, layers: Iterable[int], texts: Texts) -> Tensor:
    """Sentence vectors, (texts, width), of a body of these layers alone."""
    family = family_of(body.config)
    blocks = family.blocks(body)
    model = family.with_blocks(body, [blocks[n - 1] for n in layers])
    return torch.cat([pool(_run(model, family.causal, *text), text[1], "mean") for text in texts])


def _by_influence(body: PreTrainedModel, depth: int, texts: Texts) -> Choice:
    family = family_of(body.config)
    blocks = family.blocks(body)
    sums = [0.0] * len(blocks)
    mask = texts[0][1]

    def note(number: int) -> Any:
        def hook(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            before = args[0] if args else kwargs["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            cosines = nn.functional.cosine_similarity(before.float(), after.float(), dim=-1)
            sums[number] += float((1 - cosines)[mask].sum())

        return hook

    handles = [block.register_forward_hook(note(n), with_kwargs=True) for n, block in enumerate(blocks)]
    try:
        for ids, mask in texts:
            _run(body, family.causal, ids, mask)
    finally:
        for handle in handles:
            handle.remove()
    tokens = sum(int(mask.sum()) for _, mask in texts)
    influence = {n: total / tokens for n, total in enumerate(sums, 1)}
    layers = sorted(sorted(influence, key=lambda n: (-influence[n], n))[:depth])
    return Choice(layers, {str(n): score for n, score in influence.items()})


def _run(model: Any, causal: bool, ids: Tensor, mask: Tensor) -> Tensor:
    settings = {"use_cache": False} if causal else {}
    return cast(Tensor, model(input_ids=ids, attention_mask=mask.long(), **settings).last_hidden_state)
