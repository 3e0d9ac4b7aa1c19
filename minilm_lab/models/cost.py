"""What a run is expected to cost: floating-point operations of its layers, without embeddings, heads and the loss."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from minilm_lab.models.families import ffn_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig

TRAINING = 3
"""Forwards that a step of training costs: a backward costs two."""
CHARACTERS = 4.2
"""Characters of a token of English text in a WordPiece vocabulary, about."""


def forward(model: PretrainedConfig, layers: int, length: float) -> float:
    """Operations of a forward pass through `layers` layers, for a token of a text of `length` tokens."""
    hidden, ffn = int(model.hidden_size), ffn_of(model)
    return float(layers * (8 * hidden**2 + 4 * hidden * ffn + 4 * length * hidden))


def of_blocks(
    model: PretrainedConfig, blocks: int, length: int, layers: int | None = None, training: bool = False
) -> float:
    """Operations for `blocks` blocks of `length` tokens through all layers, or the first `layers` of them."""
    through = int(model.num_hidden_layers) if layers is None else layers
    return (TRAINING if training else 1) * blocks * length * forward(model, through, length)


def of_texts(model: PretrainedConfig, passes: Iterable[tuple[int, int, float]]) -> float:
    """Operations for texts. passes: (texts, times that each is read, its tokens on average); training counts thrice."""
    layers = int(model.num_hidden_layers)
    return sum(times * texts * tokens * forward(model, layers, tokens) for texts, times, tokens in passes)
