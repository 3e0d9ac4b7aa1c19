"""Before a training: no target token may see a later one, the source may not see the target, decoding must agree.

A mask that leaks is silent: the loss falls as never before and the generated text is rubbish. So the model at hand,
with the installed library, is tried on a tiny batch, with both attention kernels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from minilm_lab.errors import LabError
from minilm_lab.tasks.generation.decoding import CachedDecoder
from minilm_lab.tasks.generation.model import Symbols, hidden_of, logits_of
from minilm_lab.tasks.generation.sequence import join

#: Source and target tokens of the two examples of the tiny batch.
SOURCES, TARGETS = (6, 4), (4, 3)
#: Largest difference of logits that is rounding, as a share of their range: of cached decoding, and of what a hidden
#: token may not change, where the same sums are made of the same numbers.
ROUNDING, NOTHING = 1e-4, 1e-6


@torch.no_grad()
def check(model: PreTrainedModel, symbols: Symbols) -> None:
    """LabError if a target token leaks, if one is not seen by later ones, or if cached decoding differs."""
    training, kernel = model.training, model.config._attn_implementation
    model.eval()
    try:
        for other in ("eager", "sdpa"):
            model.set_attn_implementation(other)
            problem = find_problem(model, symbols)
            if problem:
                raise LabError(
                    f"the '{model.config.model_type}' model fails the check of generation with attention '{other}': "
                    f"{problem}. This version of transformers treats its masks otherwise than the lab expects"
                )
    finally:
        model.set_attn_implementation(kernel)
        model.train(training)


@torch.no_grad()
def find_problem(model: PreTrainedModel, symbols: Symbols) -> str | None:
    """What is wrong with the model's forward in eval mode, or None."""
    input_ids, real, target = _batch(model, symbols)
    hidden, logits = forward(model, symbols, input_ids, real, target)
    size = float(logits.max() - logits.min() + 1)
    for number in range(TARGETS[0]):
        place = SOURCES[0] + number
        changed = input_ids.clone()
        changed[0, place] = _other(model, int(input_ids[0, place]), symbols)
        other_hidden, other = forward(model, symbols, changed, real, target)
        if _differ(hidden[0, : SOURCES[0]], other_hidden[0, : SOURCES[0]], NOTHING):
            return "the source sees the target"
        difference = (logits[0] - other[0]).abs().amax(dim=-1)  # one a slot
        if bool((difference[: number + 1] > NOTHING * size).any()):
            return f"a slot sees target token {number + 1}, which it has to predict or which comes later"
        if bool((difference[number + 1 : TARGETS[0]] == 0).any()):
            return f"a slot does not see target token {number + 1} before it"
    if _differ(*both_ways(model, symbols, input_ids, real, target), ROUNDING * size):
        return "decoding step by step differs from reading all at once"
    return None


def forward(
    model: PreTrainedModel, symbols: Symbols, input_ids: Tensor, real: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """Hidden states (batch, tokens, hidden size) of source and target, logits (batch, slots, vocabulary)."""
    joined = join(input_ids, real, target, symbols.mask)
    hidden = hidden_of(model, joined.input_ids, joined.position_ids, joined.segments, joined.visible)
    return hidden[:, : joined.tokens], logits_of(model, hidden[:, joined.tokens :])


def both_ways(
    model: PreTrainedModel, symbols: Symbols, input_ids: Tensor, real: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the first example's target, decoded step by step and read all at once.

    Each (target tokens, words that a hypothesis may hold).
    """
    source = (real & ~target)[:1]
    length, count = int(source.sum()), int(target[0].sum())
    decoder = CachedDecoder(model, symbols, input_ids[:1, :length], source[:, :length], beams=1, length=count)
    rows = [decoder(None, None)[0, 0]]
    for number in range(count - 1):
        token = input_ids[:1, length + number : length + number + 1]
        rows.append(decoder(torch.zeros_like(token), token)[0, 0])
    _, logits = forward(model, symbols, input_ids, real, target)
    words = torch.ones(logits.shape[-1], dtype=torch.bool, device=logits.device)
    words[list(symbols.never)] = False
    return torch.stack(rows)[:, words], logits[0, :count, words].log_softmax(dim=-1)


def _differ(left: Tensor, right: Tensor, allowed: float) -> bool:
    return not bool(torch.isfinite(left).all()) or float((left - right).abs().max()) > allowed


def _other(model: PreTrainedModel, token: int, symbols: Symbols) -> int:
    size = int(model.config.vocab_size)
    taken = {token, symbols.end, *symbols.never}
    return next(number for number in range(token + 1, token + size) if number % size not in taken) % size


def _batch(model: PreTrainedModel, symbols: Symbols) -> tuple[Tensor, Tensor, Tensor]:
    """Two examples of different lengths: input_ids int64, real and target bool, (2, tokens)."""
    draw = torch.Generator().manual_seed(0)
    tokens = max(s + t for s, t in zip(SOURCES, TARGETS, strict=True))
    input_ids = torch.full((2, tokens), symbols.pad)
    real, target = torch.zeros(2, tokens, dtype=torch.bool), torch.zeros(2, tokens, dtype=torch.bool)
    for row, (source, count) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        drawn = torch.randint(int(model.config.vocab_size), (source + count,), generator=draw)
        ids = [_other(model, int(number), symbols) for number in drawn]
        input_ids[row, : source + count] = torch.tensor(ids)
        real[row, : source + count] = True
        target[row, source : source + count] = True
    device = model.device
    return input_ids.to(device), real.to(device), target.to(device)
