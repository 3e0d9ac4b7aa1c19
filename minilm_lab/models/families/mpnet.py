"""MPNet: a learned bias of the distance between two tokens is added to their score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from minilm_lab.models.families.layout import Family


class Mpnet(Family):
    """The bias is made once for all layers and handed to each."""

    def given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The bias, (batch, heads, length, length)."""
        return args[1] if len(args) > 1 else kwargs["position_bias"]

    def scores(self, attention: nn.Module, query: Tensor, key: Tensor, given: Any) -> Tensor:
        """QKᵀ/√d + bias."""
        return super().scores(attention, query, key, None) + given


MPNET = Mpnet(
    layers="encoder.layer",
    attention="attention.attn",
    maps=("q", "k", "v"),
    output="attention.attn.o",
    beside=("encoder.relative_attention_bias",),
    layer_returns_tuple=True,
    plain_scores=False,
    eager_only=True,
    positions_after_padding=True,
    padding=1,
)
