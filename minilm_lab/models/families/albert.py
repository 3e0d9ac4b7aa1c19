"""ALBERT: all layers of a group are one and the same module."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

from minilm_lab.errors import LabError
from minilm_lab.models.families.layout import Family
from minilm_lab.models.modules import get, with_module


class Albert(Family):
    """Layers are counted by their calls: the same module is the layer of several numbers."""

    def blocks(self, body: nn.Module) -> list[nn.Module]:
        """The group that serves each layer, as the library's encoder picks it."""
        config, groups = get(body, "encoder").config, get(body, self.layers)
        if config.inner_group_num != 1:
            raise LabError(
                f"ALBERT models with inner_group_num={config.inner_group_num} (several layers inside a group) "
                "are not supported; only inner_group_num=1"
            )
        depth = config.num_hidden_layers
        return [groups[int(i / (depth / config.num_hidden_groups))] for i in range(depth)]

    def with_blocks(self, body: nn.Module, blocks: Sequence[nn.Module]) -> Any:
        """As many groups as layers, so that the library's encoder calls each block once."""
        twin = with_module(body, self.layers, nn.ModuleList(blocks))
        config = copy.copy(twin.encoder.config)
        config.num_hidden_layers = config.num_hidden_groups = len(blocks)
        twin.encoder.config = config
        return twin


ALBERT = Albert(
    layers="encoder.albert_layer_groups",
    attention="albert_layers.0.attention",
    maps=("query", "key", "value"),
    output="albert_layers.0.attention.dense",
    embeddings=("embeddings", "encoder.embedding_hidden_mapping_in"),
    embedding_size="embedding_size",
    shared_layers=True,
)
