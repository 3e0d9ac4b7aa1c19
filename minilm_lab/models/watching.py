"""The parts that a tapped model puts among the library's own: they note what passes, and stop where told to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import BaseModelOutput

from minilm_lab.models.families import Family
from minilm_lab.models.modules import get


class Record:
    """What one forward pass has shown so far; empty and deaf outside of one."""

    def __init__(self) -> None:
        self.active = False
        self.clear()

    def start(self) -> None:
        """Listen, from an empty record."""
        self.clear()
        self.active = True

    def clear(self) -> None:
        """Stop listening and let go of every tensor; recomputed activations are not noted a second time."""
        self.active, self.layer = False, 0
        self.hidden: dict[int, Tensor] = {}
        self.maps: dict[int, dict[str, Tensor]] = {}
        self.given: dict[int, Any] = {}

    def enter(
        self, layer: int, family: Family, inputs: tuple[Tensor, Any, Any], hidden: bool, given: bool
    ) -> None:
        """Note the input of a layer: (hidden states, further arguments, keyword arguments)."""
        states, args, kwargs = inputs
        if hidden:
            self.hidden[layer - 1] = states
        if given:
            self.given[layer] = family.given(args, kwargs)


class Note:
    """A forward hook that keeps what a map puts out in the layers that are read."""

    def __init__(self, record: Record, name: str, layers: frozenset[int]) -> None:
        self.record, self.name, self.layers = record, name, layers

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        """Keep `output` if this is a forward pass of the tapped model."""
        record = self.record
        if record.active and record.layer in self.layers:
            # DeBERTa's attention uses its maps a second time, for the positions.
            record.maps.setdefault(record.layer, {}).setdefault(self.name, output)


class _Block(nn.Module):
    """Stands where a layer stood."""

    def __init__(
        self, block: nn.Module, number: int, family: Family, record: Record, hidden: bool, given: bool
    ) -> None:
        super().__init__()
        self.number, self.family, self.record = number, family, record
        self.keeps = {"hidden": hidden, "given": given}
        # ModernBERT's encoder asks each layer which mask it takes.
        self.attention_type = getattr(block, "attention_type", None)

    def _enter(self, hidden_states: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.record.enter(self.number, self.family, (hidden_states, args, kwargs), **self.keeps)


class Watched(_Block):
    """A layer whose input, or whose maps by way of their hooks, are noted."""

    def __init__(
        self, block: nn.Module, number: int, family: Family, record: Record, hidden: bool, given: bool
    ) -> None:
        super().__init__(block, number, family, record, hidden, given)
        self.layer = block

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """What the layer answers."""
        self._enter(hidden_states, args, kwargs)
        self.record.layer = self.number
        answer = self.layer(hidden_states, *args, **kwargs)
        self.record.layer = 0
        return answer


class Stop(_Block):
    """The end: notes its input and, where `attention` is given, the query, key and value made of it."""

    stops = True

    def __init__(
        self,
        block: nn.Module,
        attention: nn.Module | None,
        number: int,
        family: Family,
        record: Record,
        **keeps: bool,
    ) -> None:
        super().__init__(block, number, family, record, **keeps)
        self.attention = attention
        self.norm = get(block, family.norm) if attention is not None and family.norm else nn.Identity()

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The hidden states as they came."""
        self._enter(hidden_states, args, kwargs)
        if self.attention is not None:
            self.record.maps[self.number] = {"all": self._project(self.norm(hidden_states))}
        return (hidden_states, None) if self.family.layer_returns_tuple else hidden_states

    def _project(self, states: Tensor) -> Tensor:
        maps: list[Any] = [getattr(self.attention, name) for name in self.family.maps]
        if len(maps) == 1:
            return maps[0](states)
        # One product instead of three: small matrices leave a machine idle.
        weight = torch.cat([m.weight for m in maps])
        bias = None if maps[0].bias is None else torch.cat([m.bias for m in maps])
        return F.linear(states, weight, bias)


class Given(nn.Module):
    """Stands where the body of a masked-LM model stood; its hidden states are the ones that are handed to it."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.config = body.config
        self._modules = dict(body._modules)  # a head may ask the body for its embeddings

    def forward(self, *args: Any, inputs_embeds: Tensor, **kwargs: Any) -> BaseModelOutput:
        """inputs_embeds: (batch, length, hidden size), the last hidden states."""
        return BaseModelOutput(last_hidden_state=inputs_embeds)
