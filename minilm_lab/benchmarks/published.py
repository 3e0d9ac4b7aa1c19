"""The step as published code takes it: our own writing of the common approach, to measure against.

Both models run to the end with eager attention and return attention matrices and hidden states; relations are
materialised as (batch, heads, length, length) tensors of the last layer.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from minilm_lab.models.families import family_of, projection_widths
from minilm_lab.models.modules import get
from minilm_lab.models.taps import Projections


class FullModel(nn.Module):
    """Runs a whole body and catches Q, K, V of one layer (counted from 1) on the way."""

    def __init__(self, body: PreTrainedModel, layer: int) -> None:
        super().__init__()
        body.set_attn_implementation("eager")
        self.body = body
        family = family_of(body.config)
        attention = get(family.blocks(body)[layer - 1], family.attention)
        self.seen: dict[str, Tensor] = {}
        self.widths = projection_widths(body.config)
        for name in family.maps:
            getattr(attention, name).register_forward_hook(self._keep(name))

    def _keep(self, name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self.seen[name] = output

        return hook

    def forward(self, input_ids: Tensor) -> Projections:
        """input_ids: (batch, length) int64."""
        mask = torch.ones_like(input_ids)
        self.body(input_ids=input_ids, attention_mask=mask, output_attentions=True, output_hidden_states=True)
        # A family keeps three maps, or one that holds all three.
        return Projections(*torch.cat(list(self.seen.values()), dim=-1).split(self.widths, dim=-1))


def materialised_loss(student: Projections, teacher: Projections, relations: str, heads: int) -> Tensor:
    """Sum of KL(teacher ‖ student) over pairs such as "qq kk vv", with every relation held as a matrix."""
    total = torch.zeros((), device=student.query.device)
    for pair in relations.split():
        logits = []
        for projections in (student, teacher):
            left, right = (_split(projections["qkv".index(letter)], heads) for letter in pair)
            logits.append(left @ right.transpose(-1, -2) / math.sqrt(left.shape[-1]))
        log_student = F.log_softmax(logits[0].float(), dim=-1)
        divergence = F.kl_div(log_student, F.softmax(logits[1].float(), dim=-1), reduction="none")
        total = total + divergence.sum(-1).mean()
    return total


def _split(tensor: Tensor, heads: int) -> Tensor:
    batch, length, width = tensor.shape
    return tensor.view(batch, length, heads, width // heads).transpose(1, 2)
