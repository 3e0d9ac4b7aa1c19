"""What the lab knows of a family of models: where things are, and what its attention adds to QKᵀ/√d."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from minilm_lab.models.modules import get, with_module

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Family:
    """The layout of a family; paths are relative to the bare body (`AutoModel`, without a task head).

    A family whose attention or layers are unlike BERT's is a subclass that says so in the methods below.
    """

    layers: str
    """Path of the ModuleList of Transformer layers in the body."""
    attention: str
    """Path, inside a layer, of the module that holds the projections."""
    maps: tuple[str, ...]
    """Names in that module of the maps for query, key and value, or of the one map that holds all three."""
    output: str
    """Path, inside a layer, of the map that the attended values go into."""
    embeddings: tuple[str, ...] = ("embeddings",)
    """Paths of the modules that make the hidden states which enter the first layer."""
    norm: str | None = None
    """Path, inside a layer, of the normalisation before its attention; None where the input goes in as it is."""
    final_norm: str | None = None
    """Path of the normalisation after the last layer; None where each layer ends with one."""
    beside: tuple[str, ...] = ()
    """Paths of modules beside the layers that only their attention uses."""
    layer_returns_tuple: bool = False
    """Whether a layer answers (hidden states, …) rather than hidden states."""
    shared_layers: bool = False
    """Whether several layers are one module (ALBERT)."""
    causal: bool = False
    """Whether a query sees no later key."""
    rotary: bool = False
    """Whether positions turn queries and keys after they are projected."""
    plain_scores: bool = True
    """Whether attention scores are QKᵀ/√d between all positions and nothing else, so that the relation (Q, K)
    *is* the attention distribution."""
    eager_only: bool = False
    """Whether the library has only its plain attention for this family."""
    ffn: str = "intermediate_size"
    """Name of the feed-forward width in the configuration."""
    gated: bool = False
    """Whether the feed-forward block is gated, so that its width is no plain multiple of the hidden size."""
    dropout: str = "hidden_dropout_prob"
    """Name of the dropout of hidden states in the configuration."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Settings, other than the library's defaults, of the model that people mean by the family's name."""
    embedding_size: str | None = None
    """Name of the width of word embeddings in the configuration, where it may be another than the hidden size."""
    positions_after_padding: bool = False
    """Whether positions are counted on from the id of the padding token, so that the rows before are never used."""
    padding: int | None = None
    """The id that padding must have; None where any will do."""
    own_tokenizer: bool = False
    """Whether the library reads every tokenizer beside such a model as the family's own (Qwen2)."""
    masked_lm_head: tuple[str, ...] = ()
    """Names, in the masked-LM model, of the modules that make logits of hidden states, in their order; for families
    whose attention takes a mask of (query, key) pairs, explicit positions, and keys and values of earlier calls, so
    that they can be trained to generate."""
    tapped: bool = True
    """Whether the lab can read inside; where not, a model is used whole: fine-tuned, evaluated, exported."""

    def blocks(self, body: nn.Module) -> list[nn.Module]:
        """The layers of `body`, first to last; a module that serves several layers is named for each."""
        return list(get(body, self.layers))

    def with_blocks(self, body: nn.Module, blocks: Sequence[nn.Module]) -> Any:
        """A twin of `body` that runs `blocks` in place of its layers and shares everything else."""
        return with_module(body, self.layers, nn.ModuleList(blocks))

    def given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Of what the library hands to a layer beside its hidden states: what `turn` and `scores` need."""
        return None

    def turn(self, attention: nn.Module, query: Tensor, key: Tensor, given: Any) -> tuple[Tensor, Tensor]:
        """Query and key by head, (batch, heads, length, head size), as the dot product takes them."""
        return query, key

    def scores(self, attention: nn.Module, query: Tensor, key: Tensor, given: Any) -> Tensor:
        """What the softmax of `attention` takes, padding mask apart: (batch, heads, query, key).

        query, key: by head, already turned, as many key heads as query heads.
        """
        return query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5


def split_heads(tensor: Tensor, size: int) -> Tensor:
    """(batch, length, heads x size) -> (batch, heads, length, size)."""
    return tensor.unflatten(-1, (-1, size)).transpose(1, 2)


def join_heads(tensor: Tensor) -> Tensor:
    """(batch, heads, length, size) -> (batch, length, heads x size)."""
    return tensor.transpose(1, 2).flatten(2)


def hide(scores: Tensor, *, causal: bool, window: int | None = None) -> Tensor:
    """Put −inf where a query may not look: at later keys, and at keys `window` or more tokens away."""
    places = torch.arange(scores.shape[-1], device=scores.device)
    distance = places[:, None] - places
    hidden = distance < 0 if causal else torch.zeros_like(distance, dtype=torch.bool)
    if window is not None:
        hidden = hidden | (distance.abs() >= window)
    return scores.masked_fill(hidden, float("-inf"))


def head_size(config: PretrainedConfig) -> int:
    """Width of one attention head."""
    for name in ("head_dim", "attention_head_size"):
        if getattr(config, name, None):
            return int(getattr(config, name))
    return int(config.hidden_size) // int(config.num_attention_heads)


def key_heads(config: PretrainedConfig) -> int:
    """Heads of key and value; fewer than of the query where several queries share them."""
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def projection_widths(config: PretrainedConfig) -> tuple[int, int, int]:
    """Widths of query, key and value as the model projects them."""
    size = head_size(config)
    return int(config.num_attention_heads) * size, key_heads(config) * size, key_heads(config) * size
