"""GPT-2: one map for query, key and value; causal."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from minilm_lab.models.families.layout import Family, hide


class Gpt2(Family):
    """Its configuration may scale scores otherwise than by 1/√d."""

    def scores(self, attention: nn.Module, query: Tensor, key: Tensor, given: Any) -> Tensor:
        """QKᵀ times the layer's own scale, and nothing ahead."""
        module: Any = attention
        return hide(query @ key.transpose(-1, -2) * module.scaling, causal=True)


GPT2 = Gpt2(
    layers="h",
    attention="attn",
    maps=("c_attn",),
    output="attn.c_proj",
    embeddings=("wte", "wpe"),
    norm="ln_1",
    final_norm="ln_f",
    causal=True,
    plain_scores=False,
    ffn="n_inner",
    dropout="resid_pdrop",
)
