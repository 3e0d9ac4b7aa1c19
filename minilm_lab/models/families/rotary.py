"""Models whose positions turn queries and keys: ModernBERT, Llama, Qwen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

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
        cosine, sine = given
        turned: tuple[Tensor, Tensor] = apply_rotary_pos_emb(query, key, cosine, sine)
        return turned

    def scores(self, attention: nn.Module, query: Tensor, key: Tensor, given: Any) -> Tensor:
        """QKᵀ/√d within the window, and not ahead where the family is causal."""
        scores = super().scores(attention, query, key, None)
        # Both kinds of sliding layer see the keys less than this many tokens away.
        window = getattr(attention, "sliding_window", None)
        return hide(scores, causal=self.causal, window=window)


MODERNBERT = Rotary(
    "layers",
    "attn",
    ("Wqkv",),
    "attn.Wo",
    norm="attn_norm",
    final_norm="final_norm",
    rotary=True,
    plain_scores=False,
    gated=True,
    dropout="mlp_dropout",
)
LLAMA = Rotary(
    "layers",
    "self_attn",
    ("q_proj", "k_proj", "v_proj"),
    "self_attn.o_proj",
    embeddings=("embed_tokens",),
    norm="input_layernorm",
    final_norm="norm",
    causal=True,
    rotary=True,
    plain_scores=False,
    gated=True,
    dropout="attention_dropout",
)
