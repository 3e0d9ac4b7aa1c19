"""Decoding from cached keys and values is the full forward of every hypothesis, whatever the beam does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from minilm_lab.tasks.generation.cache import KeysAndValues
from minilm_lab.tasks.generation.decoding import CachedDecoder
from minilm_lab.tasks.generation.model import hidden_of, logits_of
from minilm_lab.tasks.generation.sequence import join

from .helpers import FAMILIES, batch, symbols, tiny

LENGTHS = [(6, 0), (2, 0), (4, 0)]


def uncached(model: PreTrainedModel, source: Tensor, made: list[int]) -> Tensor:
    """Log-probabilities (vocabulary,) of the token after `made`: all read at once, without padding or cache."""
    known = symbols(model)
    row = torch.cat([source, torch.tensor([*made, known.end])])[None]  # the last one stands for the unknown
    target = torch.arange(row.shape[1])[None] >= len(source)
    joined = join(row, torch.ones_like(target), target, known.mask)
    hidden = hidden_of(model, joined.input_ids, joined.position_ids, joined.segments, joined.visible)
    logits = logits_of(model, hidden[0, -1])
    logits[list(known.never)] = -torch.inf
    return logits.log_softmax(dim=-1)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_hypothesis_is_scored_as_by_the_full_forward(family: str, kernel: str) -> None:
    model = tiny(family)
    model.set_attn_implementation(kernel)
    ids, real, _ = batch(LENGTHS)
    steps, beams = 5, 3
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        decoder = CachedDecoder(model, symbols(model), ids, real, beams=beams, length=steps)
        hypotheses: list[list[list[int]]] = [[[]] for _ in LENGTHS]
        parents = tokens = None
        for step in range(steps):
            found = decoder(parents, tokens)
            for row, (source, _) in enumerate(LENGTHS):
                for beam, made in enumerate(hypotheses[row]):
                    expected = uncached(model, ids[row, :source], made)
                    torch.testing.assert_close(found[row, beam], expected, rtol=0, atol=1e-10)
            # Any choice of hypotheses: some continued twice, some dropped, another width at the first step.
            width = beams - (step == 0)
            parents = torch.randint(found.shape[1], (len(LENGTHS), width), generator=draw)
            tokens = torch.randint(5, 31, (len(LENGTHS), width), generator=draw)
            hypotheses = [
                [hypotheses[row][parents[row, b]] + [int(tokens[row, b])] for b in range(width)]
                for row in range(len(LENGTHS))
            ]


def test_a_hypothesis_never_holds_special_tokens() -> None:
    model = tiny()
    ids, real, _ = batch(LENGTHS)
    with torch.no_grad():
        found = CachedDecoder(model, symbols(model), ids, real, beams=1, length=3)(None, None)
    assert (found[..., [0, 2, 4]] == -torch.inf).all()
    torch.testing.assert_close(found.exp().sum(dim=-1), torch.ones(3, 1).double())


def test_the_cache_forgets_what_is_not_kept_and_moves_nothing() -> None:
    cache = KeysAndValues(capacity=6)
    blocks = [torch.randn(2, 3, n, 4, dtype=torch.float64) for n in (3, 2, 2)]
    keys, values = cache.update(blocks[0], -blocks[0], 0)
    assert torch.equal(keys, blocks[0]) and torch.equal(values, -blocks[0])
    start = keys.data_ptr()
    cache.keep(3)
    cache.update(blocks[1], -blocks[1], 0)
    cache.keep(1)  # of two new positions, the first
    keys, values = cache.update(blocks[2], -blocks[2], 0)
    expected = torch.cat([blocks[0], blocks[1][:, :, :1], blocks[2]], dim=2)
    assert torch.equal(keys, expected) and torch.equal(values, -expected)
    assert keys.data_ptr() == start and cache.get_seq_length() == 4
