"""Models whose positions turn queries and keys: ModernBERT, Llama, Qwen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from minilm_lab.models.families.layout import Family, hide


class Rotary(Family):
    """Rotary embeddings (RoFormer, arXiv 2104.09864), a sliding window in some layers, causal or not."""

    def given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """(cosine, sine) of each position, (1 or batch, length, head size)."""
        return kwargs["position_embeddings"]

    def turn(self, attention: nn.Module, query: Tensor, key: Tensor, given: Any) -> tuple[Tensor, Tensor]:
        """Normalise by head where the family does (Qwen3), then turn."""
        module: Any = attention
        if hasattr(module, "q_norm"):
            query, key = module.q_norm(query), module.k_norm(key)
        cosine, sine = (x.unsqueeze(1) for x in given)
        return query * cosine + _half_turned(query) * sine, key * cosine + _half_turned(key) * sine

    def scores(self, attention: nn.Module, query: Tensor, key: Tensor, given: Any) -> Tensor:
        """QKᵀ/√d within the window, and not ahead where the family is causal."""
        scores = super().scores(attention, query, key, None)
        # Both kinds of sliding layer see the keys less than this many tokens away.
        window = getattr(attention, "sliding_window", None)
        return hide(scores, causal=self.causal, window=window)


def _half_turned(tensor: Tensor) -> Tensor:
    """(…, head size): the second half, negated, before the first."""
    first, second = tensor.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


MODERNBERT = Rotary(
    layers="layers",
    attention="attn",
    maps=("Wqkv",),
    output="attn.Wo",
    norm="attn_norm",
    final_norm="final_norm",
    rotary=True,
    plain_scores=False,
    gated=True,
    dropout="mlp_dropout",
)
LLAMA = Rotary(
    layers="layers",
    attention="self_attn",
    maps=("q_proj", "k_proj", "v_proj"),
    output="self_attn.o_proj",
    embeddings=("embed_tokens",),
    norm="input_layernorm",
    final_norm="norm",
    causal=True,
    rotary=True,
    plain_scores=False,
    gated=True,
    dropout="attention_dropout",
)

QWEN2 = replace(LLAMA, own_tokenizer=True)
