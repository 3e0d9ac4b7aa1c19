"""What an objective reads of a model, and what the model then answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from minilm_lab.models.next_token import Head, Top


class Projections(NamedTuple):
    """Query, key and value of one layer, each (batch, length, hidden size)."""

    query: Tensor
    key: Tensor
    value: Tensor


@dataclass(frozen=True)
class Needs:
    """What is read of one model. The model computes this and what it depends on, and nothing more.

    Layers are counted from 1; hidden state 0 is what enters the first layer.
    """

    projections: frozenset[int] = frozenset()
    """Layers whose query, key and value are read."""
    scores: frozenset[int] = frozenset()
    """Layers whose attention scores are read: what the softmax of the model's attention takes, padding mask apart."""
    hidden: frozenset[int] = frozenset()
    """Hidden states: n = what layer n puts out, 0 = the embeddings."""
    logits: bool = False
    """Whether the masked-LM head is read, at the masked positions."""
    next_tokens: bool = False
    """Whether the head of a causal model is read, with the hidden states that enter it."""
    top: int | None = None
    """Beside `next_tokens`: how many of the likeliest next tokens are read."""

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            self.projections | other.projections,
            self.scores | other.scores,
            self.hidden | other.hidden,
            self.logits or other.logits,
            self.next_tokens or other.next_tokens,
            self.top or other.top,
        )

    def __bool__(self) -> bool:
        return bool(self.projections or self.scores or self.hidden or self.logits or self.next_tokens)

    def layers(self, depth: int) -> int:
        """The number of layers of a model of `depth` layers that this needs at least a part of."""
        if self.logits or self.next_tokens:
            return depth
        return max((*self.projections, *self.scores, *self.hidden), default=0)


@dataclass
class Seen:
    """What one forward pass of a model answered to its `Needs`."""

    projections: dict[int, Projections] = field(default_factory=dict)
    """By layer; each (batch, length, hidden size)."""
    scores: dict[int, Tensor] = field(default_factory=dict)
    """By layer; (batch, heads, query length, key length): QKᵀ/√d with every term that the family adds, and −inf
    where a causal model may not look. Padding is not masked."""
    hidden: dict[int, Tensor] = field(default_factory=dict)
    """By layer, 0 = embeddings; (batch, length, hidden size)."""
    logits: Tensor | None = None
    """(masked positions, vocabulary), positions in row-major order of the batch."""
    next_tokens: tuple[Tensor, Head] | None = None
    """(batch, length, hidden size) behind the last normalisation, and what makes logits of it."""
    top: Top | None = None
    """Of (batch, length) places."""
