"""DeBERTa-v2 and v3: scores add content-to-position and position-to-content terms (disentangled attention)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from minilm_lab.models.families.layout import Family
from minilm_lab.models.modules import get, with_module


class Deberta(Family):
    """The embeddings of relative positions lie beside the layers; each layer's attention projects them."""

    def with_blocks(self, body: nn.Module, blocks: Sequence[nn.Module]) -> Any:
        """Without the convolution after the first layer where that layer does not run to its end."""
        twin = super().with_blocks(body, blocks)
        if blocks[0] is not get(body, self.layers)[0] and getattr(blocks[0], "stops", False):
            twin = with_module(twin, "encoder.conv", None)
        return twin

    def given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """(bucket of the distance of each query and key, embeddings of the buckets)."""
        return kwargs["relative_pos"], kwargs["rel_embeddings"]

    def scores(self, attention: nn.Module, query: Tensor, key: Tensor, given: Any) -> Tensor:
        """QKᵀ/√(d·terms) + the position terms, which the library's own function works out."""
        module: Any = attention
        terms = 1 + sum(term in module.pos_att_type for term in ("c2p", "p2c"))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1] * terms)
        if not module.relative_attention:
            return scores
        distance, embeddings = given
        # The library keeps batch and heads in one dimension.
        bias = module.disentangled_attention_bias(
            query.flatten(0, 1), key.flatten(0, 1), distance, module.pos_dropout(embeddings), terms
        )
        return scores + bias.view_as(scores)


DEBERTA = Deberta(
    layers="encoder.layer",
    attention="attention.self",
    maps=("query_proj", "key_proj", "value_proj"),
    output="attention.output.dense",
    beside=("encoder.rel_embeddings", "encoder.LayerNorm", "encoder.conv"),
    layer_returns_tuple=True,
    plain_scores=False,
    eager_only=True,
    recipe={  # of DeBERTa-v3
        "relative_attention": True,
        "position_biased_input": False,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
    },
)
