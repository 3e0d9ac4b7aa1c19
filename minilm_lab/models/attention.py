"""Which attention kernel trains fastest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minilm_lab.models.families import family_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PLAIN_UP_TO = 256
"""Tokens. On a CPU with bfloat16 tiles the fused attention kernel's backward takes 2 to 6 times as long as plain
products up to this length (batch x length 4,096, 12 heads of 32, one core: 75 against 13 ms at 64, 160 against 41 at
128; at 512 they are level and the fused one needs less memory). `minilm-lab bench` measures whole steps."""


def use_fastest_attention(model: PreTrainedModel, on_cpu: bool, precision: str, length: int) -> None:
    """Choose the kernel of a model that is trained at Lightning's `precision` on sequences of `length` tokens."""
    if family_of(model.config).eager_only:
        return  # the library has one kernel only
    plain = on_cpu and precision == "bf16-mixed" and length <= PLAIN_UP_TO
    model.set_attn_implementation("eager" if plain else "sdpa")
